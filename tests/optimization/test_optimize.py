"""Optimisation-based style transfer: what a picture becomes, and what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Model, Optimization, Spec, optimize_image, stylize
from cdjax.errors import OptimizationError
from cdjax.optimization.optimize import CHUNK, scale_sizes
from cdjax.progress import Progress
from tests import models

MODEL = models.random_model((Spec(2, (4, 6)), Spec(1, (3,))))
SPEC, PARAMS = MODEL.config.specs[0], MODEL.params["stage2"]["encoder"]
CONTENT = models.random_image(21, 14)
STYLE = models.random_image(18, 24, seed=5) // 2
TINY = Optimization(
    content_layers=("relu1_2",),
    style_layers=("relu1_1", "relu2_1"),
    style_weight=10.0,
    steps=15,
    scales=2,
)


@dataclasses.dataclass(frozen=True)
class Course:
    result: np.ndarray
    reports: list[Progress]
    pictures: list[np.ndarray]
    """One for every report."""

    @property
    def totals(self) -> list[float]:
        return [report.metrics["total"] for report in self.reports]


def course(settings: Optimization, content=CONTENT, **options: Any) -> Course:
    reports: list[Progress] = []
    previews: list[jax.Array] = []
    result = optimize_image(
        MODEL, content, STYLE, settings=settings,
        on_progress=reports.append, on_preview=previews.append, preview_every=0, **options,
    )  # fmt: skip
    # The last picture is the result, and not previewed.
    return Course(np.asarray(result), reports, list(map(np.asarray, [*previews, result])))


@pytest.fixture(scope="module")
def tiny() -> Course:
    return course(TINY)


def test_the_result_is_a_picture_of_the_contents_size(tiny) -> None:
    result = tiny.result
    assert result.shape == CONTENT.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_losses_never_rise_and_fall_over_scales(tiny) -> None:
    assert [(r.task, r.done, r.total) for r in tiny.reports] == [
        (size, before + step, 30)
        for before, size in ((0, "7x11"), (15, "14x21"))
        for step in (0, CHUNK, 15)
    ]
    for totals in (tiny.totals[:3], tiny.totals[3:]):
        assert totals == sorted(totals, reverse=True)
        assert totals[-1] < 0.6 * totals[0]
    for report in tiny.reports:
        parts = [value for name, value in report.metrics.items() if name != "total"]
        assert report.metrics["total"] == pytest.approx(sum(parts))
    # The result of the coarse scale is a better start for the fine one than the content is.
    alone = course(dataclasses.replace(TINY, scales=1, steps=1))
    assert alone.reports[0].metrics["content"] < 1e-9
    assert tiny.totals[3] < alone.totals[0]


def test_previews_are_pictures_on_the_way(tiny) -> None:
    assert [picture.shape for picture in tiny.pictures] == [(11, 7, 3)] * 3 + [(21, 14, 3)] * 3
    previews: list[jax.Array] = []
    optimize_image(
        MODEL, CONTENT, STYLE, settings=TINY, on_preview=previews.append, preview_every=12
    )
    # After 15 steps, which are the first 12 in whole chunks, and not at the end.
    assert len(previews) == 1
    np.testing.assert_array_equal(previews[0], tiny.pictures[2])


def numpy_gram(image: np.ndarray, layer: str) -> np.ndarray:
    features = models.encode(SPEC, PARAMS, image / 255)[layer]
    flat = features.reshape(-1, features.shape[-1])
    return flat.T @ flat / len(flat)


def test_weights_are_shared_out_among_layers() -> None:
    settings = dataclasses.replace(TINY, scales=1, steps=1, style_shares=(1.0, 3.0), tv_weight=2.0)
    wanted = 0.0
    for layer, weight in (("relu1_1", 2.5), ("relu2_1", 7.5)):
        own, target = (numpy_gram(image, layer) for image in (CONTENT, STYLE))
        wanted += weight * np.square(own - target).mean() / np.square(target).mean()
    losses = course(settings).reports[0].metrics
    assert losses["style"] == pytest.approx(wanted, rel=1e-3)
    rough = sum(np.square(np.diff(CONTENT / 255, axis=axis)).mean() for axis in (0, 1))
    assert losses["total_variation"] == pytest.approx(2 * rough, rel=1e-4)


def test_a_run_is_reproducible_and_noise_depends_on_the_seed() -> None:
    settings = dataclasses.replace(TINY, start="noise", scales=1, steps=3)
    first = course(settings)
    np.testing.assert_array_equal(course(settings).result, first.result)
    other = course(dataclasses.replace(settings, seed=1))
    assert np.abs(other.result - first.result).max() > 0.1
    assert first.totals[-1] < first.totals[0]
    start = first.pictures[0]
    assert 0.2 < start.std() < 0.4
    assert abs(np.corrcoef(start.ravel(), CONTENT.ravel())[0, 1]) < 0.2


def test_a_stylized_start_is_what_the_decoders_make() -> None:
    settings = dataclasses.replace(TINY, start="stylized", scales=None)
    found = course(settings)
    wanted = np.asarray(stylize(MODEL, CONTENT, STYLE))
    assert np.abs(wanted - CONTENT / 255).max() > 0.05
    np.testing.assert_allclose(found.pictures[0], wanted, atol=1e-5)
    # At full size alone, unless scales are given.
    assert {report.task for report in found.reports} == {"14x21"}
    assert found.totals == sorted(found.totals, reverse=True)
    assert found.totals[-1] < 0.8 * found.totals[0]
    assert np.abs(found.result - wanted).max() > 0.01

    small = course(dataclasses.replace(settings, scales=2, steps=1)).pictures[0]
    shrunk = jax.image.resize(jnp.asarray(wanted), small.shape, "cubic")
    np.testing.assert_allclose(small, jnp.clip(shrunk, 0, 1), atol=1e-5)


def test_total_variation_smooths() -> None:
    settings = dataclasses.replace(TINY, scales=1)
    pictures = [
        course(dataclasses.replace(settings, tv_weight=weight)).result for weight in (0.0, 300.0)
    ]
    rough, smooth = (np.square(np.diff(picture, axis=0)).mean() for picture in pictures)
    assert smooth < rough / 2


def test_adam_lowers_the_loss_too() -> None:
    totals = course(dataclasses.replace(TINY, optimizer="adam", scales=1, steps=20)).totals
    assert totals[-1] < totals[0] / 2


def test_images_are_uint8_or_floating_and_a_lone_encoder_will_do(tiny) -> None:
    lone = Model(
        {"stage2": {"encoder": PARAMS}},
        dataclasses.replace(MODEL.config, method="encoder", specs=(SPEC,)),
    )
    content, style = (np.float32(image) / 255 for image in (CONTENT, STYLE))
    found = optimize_image(lone, content, style, settings=TINY)
    np.testing.assert_allclose(found, tiny.result, atol=0.02)


def test_scales_that_the_encoder_cannot_read_are_left_out() -> None:
    assert scale_sizes((9, 30), SPEC, scales=4) == [(5, 15), (9, 30)]
    assert scale_sizes((4, 4), SPEC, scales=4) == [(4, 4)]
    with pytest.raises(OptimizationError, match="30x3 pixels; this encoder needs at least 4"):
        scale_sizes((3, 30), SPEC, scales=1)
    # A style of any size will do.
    settings = dataclasses.replace(TINY, scales=1, steps=1)
    assert optimize_image(MODEL, CONTENT, STYLE[:1, :2], settings=settings).shape == CONTENT.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps and scales"),
        ({"finish_steps": 16}, "finish_steps must be from 0 to 15, not 16"),
        ({"scales": 0}, "steps and scales"),
        ({"style_weight": -1.0}, "at least 0"),
        ({"tv_weight": float("nan")}, "at least 0"),
        ({"style_layers": ("relu1_1", "relu1_1")}, "a style layer is given twice"),
        ({"style_shares": (1.0,)}, "1 shares for 2 style layers"),
        ({"content_shares": (0.0,)}, "not all 0"),
        ({"content_weight": 0.0, "style_layers": ()}, "no content or style layer"),
        ({"optimizer": "sgd"}, "not sgd"),
        ({"start": "style"}, "not style"),
        ({"learning_rate": 0.0}, "above 0"),
    ],
)
def test_settings_without_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptimizationError, match=message):
        dataclasses.replace(TINY, **changes)


def test_what_does_not_fit_is_refused() -> None:
    layers = "no layer relu4_2; choose content and style layers from relu1_1, relu1_2"
    with pytest.raises(OptimizationError, match=layers):
        optimize_image(MODEL, CONTENT, STYLE)
    with pytest.raises(ValueError, match="content must be one image"):
        optimize_image(MODEL, CONTENT[None], STYLE, settings=TINY)
    with pytest.raises(TypeError, match="style must be uint8"):
        optimize_image(MODEL, CONTENT, STYLE.astype(int), settings=TINY)


def test_a_lone_encoder_makes_no_start() -> None:
    alone = Model(MODEL.params, dataclasses.replace(MODEL.config, method="encoder"))
    settings = dataclasses.replace(TINY, start="stylized")
    with pytest.raises(OptimizationError, match="needs a model with decoders"):
        optimize_image(alone, CONTENT, STYLE, settings=settings)


TEACHER = models.random_model((Spec(3, (5, 7, 6), (1, 2, 1)),), seed=7)
FINISHED = dataclasses.replace(TINY, content_layers=("relu1_1",), finish_steps=4, scales=3)


def test_the_last_steps_are_made_with_another_encoder() -> None:
    found = course(FINISHED, models.random_image(21, 16), finish=TEACHER)
    # Not at 6 x 4 pixels, which only the first encoder could read.
    assert [(r.task, r.done, r.total) for r in found.reports] == [
        (f"{size}{end}", before + step, 30)
        for before, size in ((0, "8x11"), (15, "16x21"))
        for step, end in ((0, ""), (10, ""), (11, ""), (11, ", finishing"), (15, ", finishing"))
    ]
    for first in (0, 5):
        cheap, _, before, start, end = found.totals[first : first + 5]
        pictures = found.pictures[first + 2 : first + 5]
        assert before < cheap
        # The same picture, measured by another encoder.
        np.testing.assert_allclose(pictures[1], pictures[0], atol=1e-6)
        assert start != pytest.approx(before, rel=1e-2)
        assert end < 0.9 * start
        assert np.abs(pictures[2] - pictures[1]).max() > 0.01


def test_nothing_but_the_finish_is_the_other_encoders_course() -> None:
    whole = dataclasses.replace(FINISHED, finish_steps=FINISHED.steps)
    found = optimize_image(MODEL, CONTENT, STYLE, settings=whole, finish=TEACHER)
    settings = dataclasses.replace(FINISHED, finish_steps=0)
    wanted = optimize_image(TEACHER, CONTENT, STYLE, settings=settings)
    np.testing.assert_array_equal(found, wanted)


def test_a_finish_is_a_model_and_its_steps() -> None:
    with pytest.raises(OptimizationError, match="finish_steps need a model"):
        optimize_image(MODEL, CONTENT, STYLE, settings=FINISHED)
    with pytest.raises(OptimizationError, match="needs finish_steps"):
        optimize_image(MODEL, CONTENT, STYLE, settings=TINY, finish=TEACHER)
    settings = dataclasses.replace(FINISHED, content_layers=("relu1_2",))
    with pytest.raises(OptimizationError, match="no layer relu1_2"):
        optimize_image(MODEL, CONTENT, STYLE, settings=settings, finish=TEACHER)


def test_losses_that_are_not_finite_end_it() -> None:
    wild = dataclasses.replace(TINY, optimizer="adam", learning_rate=1e30, scales=1)
    with pytest.raises(OptimizationError, match="no longer finite"):
        optimize_image(MODEL, CONTENT, STYLE, settings=wild)


@pytest.mark.parametrize("start", ["content", "stylized"])
def test_what_is_hidden_of_the_style_decides_nothing(start: Any) -> None:
    settings = dataclasses.replace(TINY, start=start, scales=1, steps=CHUNK)
    hidden, mask = STYLE.copy(), np.full(STYLE.shape[:2], 255, np.uint8)
    mask[:, 10:] = 0
    hidden[:, 20:] = 255 - hidden[:, 20:]  # Beyond what networks see from the visible part.
    found = [
        np.asarray(optimize_image(MODEL, CONTENT, style, settings=settings, style_mask=mask))
        for style in (STYLE, hidden)
    ]
    np.testing.assert_array_equal(*found)
    whole = np.asarray(optimize_image(MODEL, CONTENT, STYLE, settings=settings))
    assert np.abs(found[0] - whole).max() > 0.01


def test_a_full_opacity_is_none_and_a_wrong_one_is_refused(tiny) -> None:
    masks = {"opacity": np.ones(CONTENT.shape[:2], bool), "style_mask": np.ones(STYLE.shape[:2])}
    np.testing.assert_array_equal(course(TINY, **masks).result, tiny.result)
    with pytest.raises(ValueError, match=r"opacity: 7x9 pixels are another aspect ratio"):
        optimize_image(MODEL, CONTENT, STYLE, settings=TINY, opacity=np.ones((9, 7)))
    black = np.zeros(STYLE.shape[:2])
    with pytest.raises(ValueError, match="mask of the style is 0 everywhere"):
        optimize_image(MODEL, CONTENT, STYLE, settings=TINY, style_mask=black)
