"""The table's counts against counts by hand; which model stands beside which original."""

from typing import Any

import pytest

from cdjax import Model, ModelConfig, Spec, student
from cdjax.checkpoints.store import abstract_params
from cdjax.evaluation.compare import with_stages
from cdjax.networks.spec import VGG16_DEPTHS
from experiments.table_report import ratios_of
from experiments.table_rows import (
    Pair,
    gatys_model,
    original_name,
    original_of,
    original_spec,
    row_of,
    sort_models,
)
from tests.evaluated import lone
from tests.models import random_model

SMALL = (Spec(2, (3, 4)), Spec(1, (5,)))


def counted(specs: tuple[Spec, ...], *, method: Any = "wct") -> Pair:
    """A model and its original that have shapes and no numbers."""
    rows = []
    for of in (tuple(map(original_spec, specs)), specs):
        config = ModelConfig(method, of, "none")
        model = Model(abstract_params(config, embeddings=method == "wct"), config)
        rows.append(row_of("name", model, trained=False, stored=None, taken=None))
    return Pair(*rows)


def test_wct_equals_counts_by_hand() -> None:
    pair = counted(tuple(student(stage) for stage in (5, 4, 3, 2, 1)))
    assert pair.compressed.parameters == 2_146_003
    assert pair.original.parameters == 34_239_371
    assert ratios_of(pair, None)[0] == pytest.approx(15.95, abs=0.005)
    macs = 648 + 3888 + 7344 + 15408 + 22896
    # An encoder for content and for style, a decoder; a multiplication and an addition.
    assert pair.compressed.gflops == pytest.approx(3 * 2 * macs * 3000**2 / 1e9)
    # VGG-19's widths: each stage ends with the first convolution of its last block.
    one, two = 9 * 3 * 64, 9 * (64 * 64 + 64 * 128 / 4)
    three, four = 9 * (128 * 128 / 4 + 128 * 256 / 16), 9 * (3 * 256**2 / 16 + 256 * 512 / 64)
    five = 9 * (3 * 512**2 / 64 + 512 * 512 / 256)
    macs = 5 * one + 4 * two + 3 * three + 2 * four + five
    assert pair.original.gflops == pytest.approx(3 * 2 * macs * 3000**2 / 1e9)
    assert pair.original.float32_bytes == 4 * 34_239_371


def test_adain_equals_counts_by_hand() -> None:
    pair = counted((student(4),), method="adain")
    assert pair.compressed.method == "adain"
    shapes = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 64), *3 * [(64, 64)], (64, 128)]
    kernels = sum(9 * a * b for a, b in shapes)
    biases = sum(b for _, b in shapes), sum(a for a, _ in shapes)
    assert pair.compressed.parameters == 12 + 2 * kernels + sum(biases)
    assert pair.compressed.gflops == pytest.approx(3 * 2 * 15408 * 3000**2 / 1e9)
    assert ratios_of(pair, None)[3] == pytest.approx(pair.original.gflops / pair.compressed.gflops)


def test_gatys_equals_counts_by_hand() -> None:
    specs = tuple(student(stage) for stage in (5, 4))
    config = ModelConfig("wct", specs, "none")
    model = Model(abstract_params(config, embeddings=True), config)
    encoder = gatys_model(model)
    assert encoder is not None
    row = row_of("name", encoder, trained=True, stored=100, taken=None)
    shapes = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 64), *3 * [(64, 64)], (64, 128)]
    shapes += 4 * [(128, 128)]
    assert row.parameters == 12 + sum(9 * a * b + b for a, b in shapes)
    # There, and the gradient back.
    assert row.gflops == pytest.approx(2 * 2 * 22896 * 3000**2 / 1e9)
    assert (row.method, row.stored_bytes) == ("gatys", None)
    assert gatys_model(with_stages(model, [4])) is None


def test_models_are_students_originals_or_of_no_use() -> None:
    models = {
        "student": random_model(SMALL),
        "teacher": random_model((Spec(1, (64,)),)),
        "lone": lone(random_model(SMALL)),
    }
    found = sort_models(models)
    assert list(found.compressed) == ["student"]
    assert list(found.originals) == ["teacher"]
    assert found.left_out == {"lone": "a lone encoder, which cannot stylise"}


def test_a_trained_original_is_taken_where_it_has_the_stages() -> None:
    deeper = random_model((Spec(2, (64, 128)), Spec(1, (64,))))
    other = random_model((Spec(1, (64,)),), method="adain")
    originals = {"other": other, "deeper": deeper}
    name, found = original_of(random_model(SMALL[1:]), originals)
    assert name == "deeper"
    assert found.config.specs == (Spec(1, (64,)),)
    assert found.params["stage1"] is deeper.params["stage1"]
    name, found = original_of(random_model((Spec(3, (3, 4, 5)),)), originals)
    assert name == ""
    assert found.config.specs == (Spec(3, (64, 128, 256)),)
    # Of another depth it is another network.
    name, _ = original_of(random_model((Spec(2, (3, 4), (1, 1, 1, 1, 1)),)), originals)
    assert name == ""
    assert original_of(random_model(SMALL[1:], method="adain"), originals)[0] == "other"


def test_originals_are_called_by_their_depth() -> None:
    vgg16, vgg19 = Spec(2, (64, 128), VGG16_DEPTHS), Spec(2, (64, 128))
    assert original_spec(Spec(2, (3, 4), VGG16_DEPTHS)) == vgg16
    assert [original_name([spec]) for spec in (vgg16, vgg19)] == ["VGG-16", "VGG-19"]
    assert original_name([vgg16, vgg19]) == original_name([Spec(2, (64, 128), (1, 1, 1, 1, 1))])
