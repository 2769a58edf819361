"""Frames stylised one after the other: what stands still does not flicker, a cut starts anew."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, Spec, Style, encode_style, stylize, stylize_frames
from cdjax.io.images import levels
from cdjax.video.stylize import FrameSettings, frames_and_states
from tests.films import pictures
from tests.models import random_image, random_model

Frames = NDArray[np.uint8]
Run = Callable[..., Frames]


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model((Spec(2, (4, 8)), Spec(1, (4,))))


@pytest.fixture(scope="module")
def style(model: Model) -> Style:
    return encode_style(model, random_image(32, 40, seed=2))


@pytest.fixture(scope="module")
def run(model: Model, style: Style) -> Run:
    def run(frames: Any, **options: Any) -> Frames:
        return np.stack(list(stylize_frames(model, frames, style, **options)))

    return run


def change(frames: Frames) -> float:
    """The mean change from frame to frame, in levels."""
    return float(np.abs(np.diff(frames.astype(float), axis=0)).mean())


def noisy(count: int, deviation: float) -> Frames:
    noise = np.random.default_rng(0).normal(size=(count, 48, 64, 3)) * deviation
    return np.clip(np.rint(random_image(48, 64) + noise), 0, 255).astype(np.uint8)


def test_without_smoothing_every_frame_is_stylised_by_itself(
    model: Model, style: Style, run: Run
) -> None:
    frames = pictures(3)
    alone = [levels(np.asarray(stylize(model, frame, style, alpha=0.7))) for frame in frames]
    found = run(frames, smoothing=1, alpha=0.7)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - np.stack(alone)).max() <= 1


def test_colours_are_preserved_as_in_pictures(model: Model, run: Run) -> None:
    frames, painting = pictures(1), random_image(32, 40, seed=2)
    for way in ("luminance", "match"):
        alone = stylize(model, frames[0], painting, preserve_color=way)
        found = next(stylize_frames(model, frames, painting, preserve_color=way))
        assert np.abs(found.astype(int) - levels(np.asarray(alone))).max() <= 2
    with pytest.raises(ValueError, match="encoded already"):
        run(frames, preserve_color="match")


def test_a_still_picture_with_noise_does_not_flicker(run: Run) -> None:
    frames = noisy(8, 4.0)
    alone = change(run(frames, smoothing=1))
    assert alone > 1
    assert change(run(frames)) <= alone / 4


def test_what_moves_is_followed(run: Run) -> None:
    frames = pictures(6)
    smoothed, alone = run(frames).astype(float), run(frames, smoothing=1)
    difference = np.abs(smoothed[-1] - alone[-1])
    assert difference.mean() < np.abs(smoothed[-1] - alone[0]).mean() / 4
    # Where the square was, nothing of it is left.
    assert difference[8:24, :12].mean() < 3


def test_a_slow_change_of_light_is_followed(run: Run) -> None:
    frames = [random_image(48, 64) // 2 + 2 * number for number in range(24)]
    smoothed, alone = run(frames)[-1].astype(float), run(frames[-1:])[0]
    assert np.abs(smoothed - alone).mean() < np.abs(run(frames[:1])[0] - alone).mean() / 3


def test_a_cut_starts_anew(run: Run) -> None:
    before, after = 255 - random_image(48, 64), noisy(2, 4.0) // 2
    found = run([before, before, *after])
    np.testing.assert_array_equal(found[2:], run(after))


def test_frames_behind_a_state_are_those_of_one_go(model: Model, style: Style, run: Run) -> None:
    frames, settings = pictures(5), FrameSettings()
    masked = [(frame, None) for frame in frames]
    states = [state for _, state in frames_and_states(model, masked[:3], style, settings)]
    after = frames_and_states(model, masked[3:], style, settings, states[-1])
    rest = [image for image, _ in after]
    np.testing.assert_array_equal(rest, run(frames)[3:])


def test_wrong_frames_are_refused(run: Run) -> None:
    frames = pictures(2)
    with pytest.raises(ValueError, match="all frames must be"):
        run([frames[0], frames[1][:40]])
    with pytest.raises(ValueError, match="at least 1 frame"):
        run(frames, smoothing=0)
    with pytest.raises(ValueError, match="frame must be"):
        run([frames[0][..., 0]])


def test_a_mask_confines_the_style_in_every_frame(model: Model, style: Style, run: Run) -> None:
    frames, size = pictures(3), (48, 64)
    moving = np.zeros((3, *size), np.uint8)
    for number, mask in enumerate(moving[1:]):  # In the first frame nothing is painted.
        mask[:, 20 * number : 20 * number + 30] = 255
    found = run(frames, mask=moving, smoothing=1)
    for frame, mask, result in zip(frames, moving, found, strict=True):
        np.testing.assert_array_equal(result[mask == 0], frame[mask == 0])
        alone = levels(np.asarray(stylize(model, frame, style, mask=mask)))
        assert np.abs(result.astype(int) - alone).max() <= 1
    still = run(frames, mask=moving[2])
    np.testing.assert_array_equal(still[1][:, :20], frames[1][:, :20])
    np.testing.assert_array_equal(run(frames, mask=255 + 0 * moving[0]), run(frames))
    # Frames without a region say nothing of its statistics.
    late = run([frames[2]] * 3, mask=moving[[0, 2, 2]])
    np.testing.assert_allclose(late[1:], run([frames[2]] * 2, mask=moving[2]), atol=1)
    with pytest.raises(ValueError, match="mask: 2 masks for more frames; give one a frame"):
        run(frames, mask=moving[:2])
