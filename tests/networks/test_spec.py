"""The table from which every layer and count follows."""

import dataclasses

import pytest

from cdjax import Spec, student, teacher
from cdjax.networks.spec import VGG16_DEPTHS


def test_parameter_counts_of_the_paper() -> None:
    assert sum(student(stage).parameter_count for stage in range(1, 6)) == 2_146_003
    assert sum(teacher(stage).parameter_count for stage in range(1, 6)) == 34_239_371


def test_encoder_macs_per_pixel_of_the_student() -> None:
    assert [student(stage).encoder_macs for stage in range(1, 6)] == [648, 3888, 7344, 15408, 22896]


def test_layers_of_stage_3() -> None:
    spec = student(3)
    names = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    assert [conv.name for conv in spec.encoder] == names
    assert [conv.name for conv in spec.decoder] == names[::-1]
    assert [conv.name for conv in spec.encoder if conv.pooled] == ["conv1_2", "conv2_2"]
    # The decoder upsamples where the encoder, read backwards, has pooled.
    assert [conv.name for conv in spec.decoder if conv.upsampled] == ["conv2_2", "conv1_2"]
    assert [(c.features_in, c.features_out) for c in spec.decoder] == [
        (c.features_out, c.features_in) for c in reversed(spec.encoder)
    ]
    assert spec.stride == 4
    assert spec.taps == (("relu1_1", 16), ("relu2_1", 32), ("relu3_1", 64))


def test_vgg16_is_shallower_than_vgg19() -> None:
    assert len(teacher(5, depths=VGG16_DEPTHS).encoder) == 11
    assert len(teacher(5).encoder) == 13
    assert student(1).widths == (24,)


@pytest.mark.parametrize("change", [{"stage": 0}, {"stage": 4}, {"padding": "mirror"}])
def test_impossible_specs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"stage|widths|padding"):
        dataclasses.replace(Spec(3, (4, 8, 8)), **change)  # type: ignore[arg-type]
