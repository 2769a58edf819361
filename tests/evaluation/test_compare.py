"""What `cdjax.evaluation.compare` measures, against NumPy and counts by hand."""

from pathlib import Path

import jax
import numpy as np
import pytest

from cdjax import Model, Spec, student, stylize
from cdjax.checkpoints.store import abstract_params
from cdjax.errors import EvaluationError
from cdjax.evaluation.compare import (
    check_comparable,
    compare,
    explained_stages,
    measured_size,
    read_photographs,
    with_stages,
)
from cdjax.evaluation.explained_variance import fraction_variance_unexplained
from cdjax.evaluation.image_quality import stylization_quality
from cdjax.evaluation.metrics import ssim
from cdjax.model import ModelConfig
from cdjax.progress import Progress
from tests.evaluated import (
    DEPTHS,
    FIT,
    LARGE,
    SMALL,
    TEST,
    lone,
    networks,
    photographs,
    unexplained_variance,
)
from tests.models import decode, encode, random_image, random_model
from tests.pictures import numbers


def numpy_psnr(images: np.ndarray, references: np.ndarray) -> float:
    apart = np.clip(images, 0, 1) - np.clip(references, 0, 1)
    return -10 * np.log10(np.square(apart).mean())


def test_many_students_at_once_measure_as_each_alone():
    # The last batch of 5 and of 3 images is not full; what fills it must count for nothing.
    students, teacher = networks(SMALL), networks(LARGE)[0]
    found = fraction_variance_unexplained(students, teacher, FIT, TEST, batch=2)
    for one, shares in zip(students, found, strict=True):
        wanted = unexplained_variance(one, teacher, FIT, TEST, batch=1)
        assert list(shares["affine"]) == [name for name, _ in one[0].taps]
        assert shares["affine"] == pytest.approx(wanted, rel=1e-4)
    wanted = unexplained_variance(students[0], teacher, FIT, TEST, form="relu", batch=1)
    assert found[0]["relu"] == pytest.approx(wanted, rel=0.01)


def test_a_student_does_not_depend_on_those_beside_it():
    spec, teacher = Spec(1, (4,), DEPTHS), networks(LARGE)[1]
    pair = [networks(random_model((spec,), seed=seed))[0] for seed in (1, 2)]
    both = fraction_variance_unexplained(pair, teacher, FIT, TEST, batch=2, samples=200)
    assert both[1:] == fraction_variance_unexplained(
        pair[1:], teacher, FIT, TEST, batch=2, samples=200
    )
    assert both[0] != both[1]


def test_a_teacher_that_is_its_own_student():
    contents, styles = TEST, random_image(3, 16, 16, seed=11)
    result = compare({"same": LARGE}, LARGE, FIT, TEST, contents=contents, styles=styles, batch=2)
    same = result.models["same"]
    for form in ("affine", "relu"):
        assert list(same.unexplained[form]) == [2, 1]
        shares = [v for taps in same.unexplained[form].values() for v in taps.values()]
        assert len(shares) == 3
        assert max(shares) < 1e-4
    assert result.teacher.unexplained == {}
    for part in ("reconstruction", "cascade", "stylized", "size"):
        assert getattr(same, part) == getattr(result.teacher, part)
    assert same.stylized != result.unstylized
    assert result.unstylized.content_ssim == pytest.approx(1, abs=1e-5)


def test_reconstructions_are_those_of_numpy():
    model, images = SMALL, TEST.astype(np.float64) / 255
    result = compare({"small": model}, LARGE, FIT, TEST, batch=2).models["small"]
    chain = list(images)
    for spec in model.config.specs:
        both = model.params[f"stage{spec.stage}"]

        def through(image, spec=spec, both=both):
            return decode(
                spec, both["decoder"], list(encode(spec, both["encoder"], image).values())[-1]
            )

        again = [through(image) for image in images]
        wanted = np.mean([numpy_psnr(a, b) for a, b in zip(again, images, strict=True)])
        assert result.reconstruction[spec.stage].psnr == pytest.approx(wanted, abs=1e-3)
        similar = ssim(np.stack(again).astype(np.float32), images.astype(np.float32)).mean()
        assert result.reconstruction[spec.stage].ssim == pytest.approx(float(similar), abs=1e-4)
        chain = [through(image) for image in chain]
    wanted = np.mean([numpy_psnr(a, b) for a, b in zip(chain, images, strict=True)])
    assert result.cascade.psnr == pytest.approx(wanted, abs=1e-3)
    untransformed = np.asarray(stylize(model, TEST[0], TEST[0], alpha=0.0))
    np.testing.assert_allclose(untransformed, np.clip(chain[0], 0, 1), atol=1e-3)
    assert result.stylized is None


def test_pairs_are_measured_in_the_teachers_features():
    teacher, styles = networks(LARGE)[0], random_image(3, 16, 16, seed=11)
    found = stylization_quality(SMALL, teacher, TEST, styles, batch=2)
    pairs = zip(TEST, styles, strict=True)
    results = np.stack([stylize(SMALL, *pair) for pair in pairs]).astype(np.float64)

    def grams(images):
        taps = [encode(*teacher, image) for image in images]
        return {
            n: [np.einsum("hwi,hwj->ij", t[n], t[n]) / t[n][..., 0].size for t in taps]
            for n in taps[0]
        }

    ours, theirs = grams(results), grams(styles / 255)
    assert list(found.style_distance) == ["relu1_1", "relu2_1"]
    for name, value in found.style_distance.items():
        wanted = np.mean(
            [np.square(a - b).mean() for a, b in zip(ours[name], theirs[name], strict=True)]
        )
        assert value == pytest.approx(wanted, rel=1e-3)
    similar = ssim(results.astype(np.float32), (TEST / 255).astype(np.float32)).mean()
    assert found.content_ssim == pytest.approx(float(similar), abs=1e-4)

    def statistics(tap):
        return tap.mean((0, 1)), np.sqrt(tap.var((0, 1), ddof=1) + 1e-5)

    content_losses, style_losses = [], []
    for images in zip(results, TEST / 255, styles / 255, strict=True):
        made, content, style = (encode(*teacher, image) for image in images)
        (mean, deviation), (new_mean, new_deviation) = (
            statistics(taps["relu2_1"]) for taps in (content, style)
        )
        target = (content["relu2_1"] - mean) / deviation * new_deviation + new_mean
        content_losses.append(np.square(made["relu2_1"] - target).mean())
        style_losses.append(
            sum(
                np.square(a - b).mean()
                for name, tap in made.items()
                for a, b in zip(statistics(tap), statistics(style[name]), strict=True)
            )
        )
    assert found.content_loss == pytest.approx(np.mean(content_losses), rel=1e-3)
    assert found.style_loss == pytest.approx(np.mean(style_losses), rel=1e-3)


def test_adains_losses_end_at_its_stage():
    deep = networks(random_model((Spec(5, (2, 3, 3, 4, 4), (1, 1, 1, 1, 1)),), seed=6))[0]
    spec = Spec(4, deep[0].widths[:4], deep[0].depths)
    layers = ("conv0", *(conv.name for conv in spec.encoder))
    shallow = spec, {name: deep[1][name] for name in layers}
    contents, styles = random_image(2, 32, 32), random_image(2, 32, 32, seed=11)
    whole, part = (stylization_quality(SMALL, t, contents, styles) for t in (deep, shallow))
    assert list(whole.style_distance)[4:] == ["relu5_1"]
    assert whole.content_loss == pytest.approx(part.content_loss, rel=1e-5)
    assert whole.style_loss == pytest.approx(part.style_loss, rel=1e-5)


def test_sizes_are_those_counted_by_hand():
    size = measured_size(random_model((Spec(1, (5,)),)))
    assert size.parameters == (12 + 27 * 5 + 5) + (45 * 3 + 3)
    assert size.embedding_parameters == 0
    # Two operations of 135 products a pixel, for two encoders and a decoder.
    assert size.gflops == pytest.approx(2 * 135 * 3 * 9e6 / 1e9)

    config = ModelConfig("wct", tuple(student(stage) for stage in (5, 4, 3, 2, 1)), "vgg19")
    shapes = abstract_params(config, embeddings=[2])
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    published = measured_size(Model(zeros, config))
    assert published.parameters == 2_146_003
    assert published.embedding_parameters == 17 * 64 + 33 * 128
    macs = 648 + 3888 + 7344 + 15408 + 22896
    assert published.gflops == pytest.approx(2 * 3 * macs * 9e6 / 1e9)


def test_a_lone_encoder_has_its_features_measured_only():
    result = compare({"lone": lone(SMALL), "small": SMALL}, lone(LARGE), FIT, TEST, batch=2)
    alone, whole = result.models.values()
    assert alone.unexplained["affine"][2] == whole.unexplained["affine"][2]
    assert (alone.reconstruction, alone.cascade, alone.size.gflops) == ({}, None, None)
    assert alone.size.parameters == 12 + (81 + 3) + (81 + 3) + (27 * 4 + 4)
    assert result.teacher.reconstruction == {}


def test_stages_beyond_the_teacher_are_reconstructed_only():
    deep = random_model((Spec(3, (3, 4, 4), (1, 1, 1, 1, 1)), Spec(1, (4,), DEPTHS)), seed=4)
    result = compare({"deep": deep}, LARGE, FIT, TEST, batch=2)
    assert list(result.models["deep"].unexplained["affine"]) == [1]
    assert list(result.models["deep"].reconstruction) == [3, 1]
    # The teacher runs what it shares with the model.
    assert list(result.teacher.reconstruction) == [1]


def test_stages_can_be_taken_out_of_a_model():
    part = with_stages(SMALL, [1])
    assert [spec.stage for spec in part.config.specs] == [1]
    assert list(part.params) == ["stage1"]
    cut = with_stages(lone(SMALL), [1])
    assert cut.config.specs == (Spec(1, (3,), DEPTHS),)
    assert list(cut.params["stage1"]["encoder"]) == ["conv0", "conv1_1"]
    with pytest.raises(EvaluationError, match=r"stages 2, 1, not all of 3, 1"):
        with_stages(SMALL, [3, 1])


def test_what_cannot_be_compared_is_refused():
    # What lies behind the stage does not matter, and the number of convolutions before it does.
    other = random_model((Spec(2, (3, 4), (1, 1, 1, 1, 1)), Spec(1, (3,), (1, 1, 1, 1, 1))))
    assert explained_stages(other, LARGE) == [1]
    assert explained_stages(random_model((Spec(2, (3, 4), (2, 3, 3, 3, 3)),)), LARGE) == [2]
    check_comparable({"small": SMALL, "other": other}, LARGE, size=32)
    for size in (33, 8):
        with pytest.raises(
            EvaluationError, match=f"multiple of 2 pixels and at least 16, not {size}"
        ):
            check_comparable({"small": SMALL}, LARGE, size=size)
    deep = lone(random_model((Spec(3, (3, 4, 4), DEPTHS),)))
    with pytest.raises(
        EvaluationError, match="deep: a lone encoder of none of whose stages the teacher"
    ):
        check_comparable({"deep": deep}, LARGE, size=32)
    with pytest.raises(EvaluationError, match="no model has decoders"):
        check_comparable({"lone": lone(SMALL)}, lone(LARGE), size=32, pairs=True)


def test_photographs_are_central_squares_spread_over_the_folder(tmp_path: Path):
    folder = photographs(tmp_path / "images", 12, side=40)
    found = read_photographs(folder, size=20, count=4)
    assert found.images.shape == (4, 20, 20, 3)
    assert numbers(found.images) == [0, 3, 6, 9]
    red = found.images[..., 0].mean((1, 2))
    # Red grows from 0 to 240 over the whole width: its mean is that of the middle.
    np.testing.assert_allclose(red, 120, atol=2)
    (folder / "03.png").write_bytes(b"no picture")
    found = read_photographs(folder, size=20, count=4)
    assert numbers(found.images) == [0, 6, 9]
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith("03.png: ")
    (folder / "notes.txt").write_text("no picture either")
    said: list[Progress] = []
    assert len(read_photographs(folder, size=20, on_progress=said.append).images) == 11
    messages = [report.message for report in said if report.message]
    assert len(messages) == 1
    assert "1 file is not read, without the suffix of an image: notes.txt" in messages[0]


def test_no_photograph_that_can_be_read(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"none of 1 images can be read: a\.png: "):
        read_photographs(tmp_path, size=20)
