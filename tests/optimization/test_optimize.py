"""Optimisation-based style transfer: what a picture becomes, and what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Model, Optimization, Spec, optimize_image, stylize
from cdjax.errors import OptimizationError
from cdjax.optimization.optimize import CHUNK, Progress, scale_sizes
from tests import models

pytestmark = pytest.mark.usefixtures("quick_compiler")

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


def course(settings: Optimization, content=CONTENT) -> tuple[np.ndarray, list[Progress]]:
    notes: list[Progress] = []
    result = optimize_image(MODEL, content, STYLE, settings=settings, note=notes.append)
    return np.asarray(result), notes


@pytest.fixture(scope="module")
def tiny() -> tuple[np.ndarray, list[Progress]]:
    return course(TINY)


def test_the_result_is_a_picture_of_the_contents_size(tiny) -> None:
    result, _ = tiny
    assert result.shape == CONTENT.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_losses_never_rise_and_fall_over_scales(tiny) -> None:
    _, notes = tiny
    assert [(n.scale, n.scales, n.size, n.step) for n in notes] == [
        (scale, 2, size, step)
        for scale, size in enumerate([(11, 7), (21, 14)])
        for step in (0, CHUNK, 15)
    ]
    for scale in range(2):
        totals = [note.losses["total"] for note in notes if note.scale == scale]
        assert totals == sorted(totals, reverse=True)
        assert totals[-1] < 0.6 * totals[0]
    for note in notes:
        parts = [value for name, value in note.losses.items() if name != "total"]
        assert note.losses["total"] == pytest.approx(sum(parts))
    # What the coarse scale found is a better start for the fine one than the content is.
    alone = course(dataclasses.replace(TINY, scales=1, steps=1))[1]
    assert alone[0].losses["content"] < 1e-9
    assert notes[3].losses["total"] < alone[0].losses["total"]


def test_the_last_picture_is_the_result(tiny) -> None:
    result, notes = tiny
    np.testing.assert_array_equal(notes[-1].picture(), result)
    assert notes[0].picture().shape == (11, 7, 3)


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
    losses = course(settings)[1][0].losses
    assert losses["style"] == pytest.approx(wanted, rel=1e-3)
    rough = sum(np.square(np.diff(CONTENT / 255, axis=axis)).mean() for axis in (0, 1))
    assert losses["total_variation"] == pytest.approx(2 * rough, rel=1e-4)


def test_a_run_is_reproducible_and_noise_depends_on_the_seed() -> None:
    settings = dataclasses.replace(TINY, start="noise", scales=1, steps=3)
    first, notes = course(settings)
    np.testing.assert_array_equal(course(settings)[0], first)
    assert np.abs(course(dataclasses.replace(settings, seed=1))[0] - first).max() > 0.1
    assert notes[-1].losses["total"] < notes[0].losses["total"]
    start = np.asarray(notes[0].picture())
    assert 0.2 < start.std() < 0.4
    assert abs(np.corrcoef(start.ravel(), CONTENT.ravel())[0, 1]) < 0.2


def test_a_stylized_start_is_what_the_decoders_make() -> None:
    settings = dataclasses.replace(TINY, start="stylized", scales=None)
    result, notes = course(settings)
    wanted = np.asarray(stylize(MODEL, CONTENT, STYLE))
    assert np.abs(wanted - CONTENT / 255).max() > 0.05
    np.testing.assert_allclose(notes[0].picture(), wanted, atol=1e-5)
    # At full size alone, where nothing else is asked for.
    assert {note.size for note in notes} == {CONTENT.shape[:2]}
    totals = [note.losses["total"] for note in notes]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 0.8 * totals[0]
    assert np.abs(result - wanted).max() > 0.01

    small = course(dataclasses.replace(settings, scales=2, steps=1))[1][0].picture()
    shrunk = jax.image.resize(jnp.asarray(wanted), small.shape, "cubic")
    np.testing.assert_allclose(small, jnp.clip(shrunk, 0, 1), atol=1e-5)


def test_total_variation_smooths() -> None:
    settings = dataclasses.replace(TINY, scales=1)
    pictures = [
        course(dataclasses.replace(settings, tv_weight=weight))[0] for weight in (0.0, 300.0)
    ]
    rough, smooth = (np.square(np.diff(picture, axis=0)).mean() for picture in pictures)
    assert smooth < rough / 2


def test_adam_lowers_the_loss_too() -> None:
    _, notes = course(dataclasses.replace(TINY, optimizer="adam", scales=1, steps=20))
    assert notes[-1].losses["total"] < notes[0].losses["total"] / 2


def test_images_are_uint8_or_floating_and_a_lone_encoder_will_do(tiny) -> None:
    lone = Model(
        {"stage2": {"encoder": PARAMS}},
        dataclasses.replace(MODEL.config, method="encoder", specs=(SPEC,)),
    )
    content, style = (np.float32(image) / 255 for image in (CONTENT, STYLE))
    found = optimize_image(lone, content, style, settings=TINY)
    np.testing.assert_allclose(found, tiny[0], atol=0.02)


def test_scales_that_the_encoder_cannot_read_are_left_out() -> None:
    assert scale_sizes((9, 30), SPEC, scales=4) == [(5, 15), (9, 30)]
    assert scale_sizes((4, 4), SPEC, scales=4) == [(4, 4)]
    with pytest.raises(OptimizationError, match="30x3 pixels; this encoder needs 4 a side"):
        scale_sizes((3, 30), SPEC, scales=1)
    # A style of any size will do.
    settings = dataclasses.replace(TINY, scales=1, steps=1)
    assert optimize_image(MODEL, CONTENT, STYLE[:1, :2], settings=settings).shape == CONTENT.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "a step and a scale"),
        ({"finish_steps": 16}, "16 of 15 steps cannot finish"),
        ({"scales": 0}, "a step and a scale"),
        ({"style_weight": -1.0}, "0 or more"),
        ({"tv_weight": float("nan")}, "0 or more"),
        ({"style_layers": ("relu1_1", "relu1_1")}, "a style layer is given twice"),
        ({"style_shares": (1.0,)}, "1 shares of 2 style layers"),
        ({"content_shares": (0.0,)}, "not all 0"),
        ({"content_weight": 0.0, "style_layers": ()}, "neither"),
        ({"optimizer": "sgd"}, "not sgd"),
        ({"start": "style"}, "not style"),
        ({"learning_rate": 0.0}, "above 0"),
    ],
)
def test_settings_without_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptimizationError, match=message):
        dataclasses.replace(TINY, **changes)


def test_what_does_not_fit_is_refused() -> None:
    layers = r"no layer relu4_2; choose the content's and the style's among relu1_1, relu1_2"
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
    notes: list[Progress] = []
    content = models.random_image(21, 16)
    optimize_image(MODEL, content, STYLE, settings=FINISHED, finish=TEACHER, note=notes.append)
    # Not at 6 x 4 pixels, which only the first encoder could read.
    assert [(n.scale, n.scales, n.size, n.step, n.finishing) for n in notes] == [
        (scale, 2, size, step, finishing)
        for scale, size in enumerate([(11, 8), (21, 16)])
        for step, finishing in ((0, False), (10, False), (11, False), (11, True), (15, True))
    ]
    for first in (0, 5):
        cheap, before, start, end = notes[first], *notes[first + 2 : first + 5]
        assert before.losses["total"] < cheap.losses["total"]
        # The same picture in other eyes.
        np.testing.assert_allclose(start.picture(), before.picture(), atol=1e-6)
        assert start.losses["total"] != pytest.approx(before.losses["total"], rel=1e-2)
        assert end.losses["total"] < 0.9 * start.losses["total"]
        assert np.abs(end.picture() - start.picture()).max() > 0.01


def test_nothing_but_the_finish_is_the_other_encoders_course() -> None:
    whole = dataclasses.replace(FINISHED, finish_steps=FINISHED.steps)
    found = optimize_image(MODEL, CONTENT, STYLE, settings=whole, finish=TEACHER)
    settings = dataclasses.replace(FINISHED, finish_steps=0)
    wanted = optimize_image(TEACHER, CONTENT, STYLE, settings=settings)
    np.testing.assert_array_equal(found, wanted)


def test_a_finish_is_a_model_and_its_steps() -> None:
    with pytest.raises(OptimizationError, match="need a model"):
        optimize_image(MODEL, CONTENT, STYLE, settings=FINISHED)
    with pytest.raises(OptimizationError, match="needs finish_steps"):
        optimize_image(MODEL, CONTENT, STYLE, settings=TINY, finish=TEACHER)
    settings = dataclasses.replace(FINISHED, content_layers=("relu1_2",))
    with pytest.raises(OptimizationError, match="no layer relu1_2"):
        optimize_image(MODEL, CONTENT, STYLE, settings=settings, finish=TEACHER)


def test_losses_that_are_not_finite_end_it() -> None:
    wild = dataclasses.replace(TINY, optimizer="adam", learning_rate=1e30, scales=1)
    with pytest.raises(OptimizationError, match="not finite"):
        optimize_image(MODEL, CONTENT, STYLE, settings=wild)
