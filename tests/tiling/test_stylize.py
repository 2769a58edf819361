"""Windows give what the whole image gives, to the last bit, whatever memory there is."""

import dataclasses
import resource
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cdjax import Model, Spec, Style, encode_style, stylize, stylize_by_windows
from cdjax.progress import Progress
from cdjax.tiling.resume import ResumeState
from tests.models import random_image, random_model

MODEL = random_model((Spec(3, (4, 6, 8)), Spec(1, (5,))))
CONTENT, STYLE = random_image(150, 140, seed=7), random_image(40, 52, seed=9)
SMALL = 500_000
"""Bytes for windows of 64 pixels."""


@pytest.fixture(scope="module")
def style() -> Style:
    return encode_style(MODEL, STYLE)


@pytest.fixture(scope="module")
def whole(style: Style) -> NDArray[np.float32]:
    """What the windows of `CONTENT` must give."""
    return np.asarray(stylize(MODEL, CONTENT, style))


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from((SMALL, 10**6)), st.booleans())
def test_windows_equal_the_whole_image(height: int, width: int, memory: int, spilled: bool) -> None:
    content = random_image(height, width, seed=height * 151 + width)
    whole = np.asarray(stylize(MODEL, content, STYLE, alpha=0.7))
    result = stylize_by_windows(
        MODEL, content, STYLE, alpha=0.7, memory=memory, host_memory=0 if spilled else 10**9
    )
    assert isinstance(result, np.memmap) == spilled
    assert result.shape == (height, width, 3)
    np.testing.assert_array_equal(result, whole)


@pytest.mark.parametrize(("transform", "regularization"), [("ot", 0.0), ("wct", 0.5)])
def test_every_transform_by_windows_equals_the_whole_image(
    transform: str, regularization: float, whole: NDArray[np.float32], style: Style
) -> None:
    options: Any = {"transform": transform, "regularization": regularization}
    exact = np.asarray(stylize(MODEL, CONTENT, style, **options))
    assert np.abs(exact - whole).max() > 0.005
    result = stylize_by_windows(MODEL, CONTENT, style, memory=SMALL, **options)
    np.testing.assert_array_equal(result, exact)


@pytest.mark.parametrize("kind", ["luminance", "match"])
@pytest.mark.parametrize("floating", [False, True])
def test_colours_by_windows_equal_those_of_the_whole_image(
    kind: Any, floating: bool, whole: NDArray[np.float32]
) -> None:
    content = CONTENT / np.float32(255) if floating else CONTENT
    exact = np.asarray(stylize(MODEL, content, STYLE, preserve_color=kind))
    assert np.abs(exact - whole).max() > 0.01
    options: Any = {"memory": SMALL, "preserve_color": kind}
    result = stylize_by_windows(MODEL, content, STYLE, **options)
    np.testing.assert_array_equal(result, exact)
    levels = stylize_by_windows(MODEL, Lines(content), STYLE, levels=True, **options)
    np.testing.assert_array_equal(levels, np.rint(exact * 255))


def test_strengths_and_transforms_of_stages_by_windows_equal_the_whole_image(style: Style) -> None:
    of_stages: Any = {"strengths": ((3, 0.3), (1, 0.9)), "transforms": ((3, "adain"), (1, "ot"))}
    model = dataclasses.replace(MODEL, config=dataclasses.replace(MODEL.config, **of_stages))
    exact = np.asarray(stylize(model, CONTENT, style, alpha=0.7))
    result = stylize_by_windows(model, CONTENT, style, alpha=0.7, memory=SMALL)
    np.testing.assert_array_equal(result, exact)


@pytest.mark.parametrize("stage", [1, 3])
def test_every_stage_alone_equals_the_whole_image_in_grey_levels_too(stage: int) -> None:
    specs = tuple(spec for spec in MODEL.config.specs if spec.stage == stage)
    model = Model(MODEL.params, dataclasses.replace(MODEL.config, specs=specs))
    content = random_image(132, 66, seed=3)
    exact = stylize_by_windows(model, content, STYLE, memory=SMALL)
    np.testing.assert_array_equal(exact, np.asarray(stylize(model, content, STYLE)))
    levels = stylize_by_windows(model, content, STYLE, memory=SMALL, levels=True)
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, np.rint(exact * 255))


def test_a_style_is_read_by_windows_too_and_may_come_encoded() -> None:
    content, image = STYLE, CONTENT
    whole = np.asarray(stylize(MODEL, content, image))
    for given_style in (image, encode_style(MODEL, image), encode_style(MODEL, image[None])):
        result = stylize_by_windows(MODEL, content, given_style, memory=SMALL)
        np.testing.assert_array_equal(result, whole)


class Lines:
    """An image that is made where it is read, and keeps nothing."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels
        self.shape, self.dtype = pixels.shape, pixels.dtype
        self.most = 0

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        block: NDArray[Any] = self._pixels[region].copy()
        self.most = max(self.most, block.shape[0] * block.shape[1])
        return block


def test_an_image_is_read_where_it_is_cut_and_not_written_to(
    style: Style, whole: NDArray[np.float32]
) -> None:
    pixels = CONTENT.copy()
    lines = Lines(pixels)
    np.testing.assert_array_equal(stylize_by_windows(MODEL, lines, style, memory=SMALL), whole)
    assert lines.most <= 72 * 72
    floating = pixels.astype(np.float32) / 255
    copy = floating.copy()
    stylize_by_windows(MODEL, floating, style, memory=SMALL)
    np.testing.assert_array_equal(pixels, CONTENT)
    np.testing.assert_array_equal(floating, copy)


def test_one_program_serves_images_of_many_sizes() -> None:
    model = random_model((Spec(2, (3, 7)),), seed=5)
    style = encode_style(model, STYLE)
    compiled: list[str] = []
    stylize_by_windows(model, random_image(250, 310), style, memory=SMALL)

    def listen(event: str, *_: float, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        stylize_by_windows(model, random_image(271, 588), style, memory=SMALL)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


class Killed(Exception):
    """As a power cut would end a run, as far as files are concerned."""


def test_an_interrupted_run_goes_on_behind_its_last_stage(
    tmp_path: Path, style: Style, whole: NDArray[np.float32]
) -> None:
    kept = ResumeState(tmp_path / "run", "these inputs")
    seen: list[Progress] = []

    def stop_in_stage_1(progress: Progress) -> None:
        seen.append(progress)
        if progress.task == "stylize" and progress.metrics["stage"] == 1:
            raise Killed

    arguments: dict[str, Any] = {"memory": SMALL, "resume": kept}
    with pytest.raises(Killed):
        stylize_by_windows(MODEL, CONTENT, style, **arguments, on_progress=stop_in_stage_1)
    assert {progress.metrics["stage"] for progress in seen} == {3, 1}
    other = ResumeState(kept.parent, "other inputs")
    assert other.load() is None
    seen.clear()
    result = stylize_by_windows(MODEL, CONTENT, style, **arguments, on_progress=seen.append)
    assert seen[0].message == "continues after stage 3"
    assert 2 * seen[0].done == seen[0].total
    assert {progress.metrics["stage"] for progress in seen[1:]} == {1}
    np.testing.assert_array_equal(result, whole)
    kept.clear()
    assert not kept.folder.exists()


def test_without_room_for_a_stage_the_run_goes_on_and_says_so(
    tmp_path: Path, style: Style, whole: NDArray[np.float32]
) -> None:
    seen: list[Progress] = []
    kept = ResumeState(tmp_path, "key")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        options: Any = {"memory": SMALL, "resume": kept, "on_progress": seen.append}
        result = stylize_by_windows(MODEL, CONTENT, style, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(result, whole)
    said = [progress.message for progress in seen if progress.message]
    assert said == ["an interruption would lose finished stages (File too large)"]
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_ignored(tmp_path: Path) -> None:
    kept = ResumeState(tmp_path, "key")
    kept.save(3, random_image(8, 8).astype(np.float32))
    assert kept.load() is not None
    (file,) = kept.folder.iterdir()
    file.write_bytes(b"cut short")
    assert kept.load() is None
    file.rename(kept.folder / "stage3-huge.raw")
    assert kept.load() is None


def test_the_states_of_two_runs_lie_side_by_side(tmp_path: Path) -> None:
    one, other = (ResumeState(tmp_path, key) for key in ("one", "other"))
    one.save(3, np.full((4, 5, 3), 1, np.float32))
    other.save(2, np.full((6, 7, 3), 2, np.float32))
    other.clear()
    found = one.load()
    assert found is not None
    assert found[0] == 3
    assert found[1].shape == (4, 5, 3)
    assert (found[1] == 1).all()
    assert other.load() is None
    assert list(tmp_path.iterdir()) == [one.folder]


def test_who_reads_a_stage_keeps_it_when_it_is_replaced_or_removed(tmp_path: Path) -> None:
    kept = ResumeState(tmp_path, "key")
    kept.save(3, np.full((4, 5, 3), 1, np.float32))
    found = kept.load()
    assert found is not None
    kept.save(3, np.full((4, 5, 3), 2, np.float32))
    kept.save(2, np.full((4, 5, 3), 3, np.float32))
    assert (found[1] == 1).all()
    again = kept.load()
    assert again is not None
    assert again[0] == 2
    (kept.folder / ".cdjax-0.part").write_bytes(b"of a run that was killed")
    kept.clear()
    assert (again[1] == 3).all()
    assert not kept.folder.exists()


def test_progress_counts_the_style_and_two_passes_of_every_stage() -> None:
    seen: list[Progress] = []
    stylize_by_windows(MODEL, CONTENT, STYLE, memory=SMALL, on_progress=seen.append)
    last = {progress.task: (progress.done, progress.total) for progress in seen}
    style, size = 2 * 40 * 52, 4 * 152 * 140
    assert last == {"style": (style, style), "stylize": (size, size)}
    done = [progress.done for progress in seen if progress.task == "stylize"]
    assert done == sorted(set(done))
    assert {progress.metrics["stage"] for progress in seen} == {3, 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": 1000}, "stage 3 needs at least 1 MB of device memory for a window, not 0"),
        ({"content": random_image(2, 80, 80)}, r"one image \(H, W, 3\)"),
        ({"dtype": "float16"}, "float32 or bfloat16"),
    ],
)
def test_wrong_arguments_are_refused(style: Style, change: dict[str, object], message: str) -> None:
    arguments: dict[str, Any] = {"content": CONTENT, "style": style, "memory": SMALL}
    with pytest.raises(ValueError, match=message):
        stylize_by_windows(MODEL, **(arguments | change))
