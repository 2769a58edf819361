"""What the page of `cdjax serve` does with files; without Gradio, which test_serve.py needs."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from cdjax import CdjaxError, ImageError, load_model
from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Settings
from cdjax.cli.main import main
from cdjax.cli.page_files import Session, Sessions
from cdjax.cli.page_work import (
    MOST_STYLES,
    paint,
    take_content,
    take_layer,
    take_samples,
    take_styles,
)
from cdjax.io.images import Picture, read_image, write_image
from tests.cli.strokes import write_strokes
from tests.models import random_image

QUIET = Settings(quiet=True)


def uploaded(root: Path, name: str, data: bytes) -> Path:
    """A file as Gradio leaves it: in a folder named after its content."""
    path = root / str(hash(data)) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def session(root: Path, pair: Path) -> Session:
    """A session with both pictures uploaded."""
    session = Sessions(root).get("key")
    take_content(session, uploaded(root, "c.png", (pair / "c.png").read_bytes()))
    take_styles(session, [uploaded(root, "s.png", (pair / "s.png").read_bytes())])
    return session


def test_the_result_is_that_of_the_command_line(
    session: Session, root: Path, pair: Path, weights: Path
) -> None:
    painted = paint(session, InterruptGuard(), lambda: load_model(weights), QUIET)
    assert main(["stylize", "c.png", "s.png", "-o", "out/", "--weights", str(weights)]) == 0
    assert painted.output.read_bytes() == (pair / "out" / "c__s.png").read_bytes()
    assert painted.size == (32, 24)
    shapes = [read_image(path).pixels.shape for path in (painted.before, painted.after)]
    assert shapes == [(24, 32, 3)] * 2
    again = paint(session, InterruptGuard(), lambda: load_model(weights), QUIET)
    assert not painted.output.exists()
    assert again.output.exists()


def write_layer_and_mask(folder: Path) -> None:
    """Writes layer.png, and mask.png with all that is painted on it in any colour."""
    strokes = write_strokes(folder / "layer.png")
    both = np.maximum(*(read_image(path).pixels for path in strokes))
    write_image(folder / "mask.png", Picture(both))


def test_what_is_painted_is_a_mask_until_the_photograph_changes(
    session: Session, root: Path, pair: Path, weights: Path
) -> None:
    write_layer_and_mask(pair)

    def made() -> bytes:
        painted = paint(session, InterruptGuard(), lambda: load_model(weights), QUIET)
        return painted.output.read_bytes()

    take_layer(session, [uploaded(root, "layer.png", (pair / "layer.png").read_bytes())])
    arguments = ["stylize", "c.png", "s.png", "--weights", str(weights)]
    assert main([*arguments, "--mask", "mask.png", "-o", "masked.png"]) == 0
    assert made() == (pair / "masked.png").read_bytes()
    assert main([*arguments, "-o", "whole.png"]) == 0
    take_layer(session, [])
    assert made() == (pair / "whole.png").read_bytes()
    take_layer(session, [uploaded(root, "layer.png", (pair / "layer.png").read_bytes())])
    take_content(session, uploaded(root, "c.png", (pair / "c.png").read_bytes()))
    assert made() == (pair / "whole.png").read_bytes()


def test_a_mixture_may_go_where_anything_is_painted(
    session: Session, root: Path, pair: Path, weights: Path
) -> None:
    write_layer_and_mask(pair)
    write_image(pair / "t.png", random_image(20, 20, seed=4))
    styles = [uploaded(root, name, (pair / name).read_bytes()) for name in ("s.png", "t.png")]
    take_styles(session, styles)
    take_layer(session, [uploaded(root, "layer.png", (pair / "layer.png").read_bytes())])
    settings = Settings(quiet=True, style_weights=(2.0, 1.0))
    painted = paint(session, InterruptGuard(), lambda: load_model(weights), settings, mixed=True)
    arguments = ["stylize", "c.png", "-s", "s.png", "t.png", "--mix", "2", "1", "-o", "mixed.png"]
    assert main([*arguments, "--mask", "mask.png", "--weights", str(weights)]) == 0
    assert painted.output.read_bytes() == (pair / "mixed.png").read_bytes()


def test_a_layer_that_is_no_picture_of_the_photograph_is_refused(
    session: Session, root: Path, pair: Path, weights: Path
) -> None:
    write_image(pair / "square.png", Picture(random_image(9, 9), np.full((9, 9), 255, np.uint8)))
    for data, message in (
        (b"not a picture", "regions.png: not an image"),
        ((pair / "square.png").read_bytes(), "mask1.png: 9x9 pixels are another aspect ratio"),
    ):
        take_layer(session, [uploaded(root, "regions.png", data)])
        with pytest.raises(CdjaxError) as caught:
            paint(session, InterruptGuard(), lambda: load_model(weights), QUIET)
        assert message in session.shortened(str(caught.value))
    assert not list(root.rglob("mask*"))


def test_an_upload_that_is_refused_changes_nothing(session: Session, root: Path) -> None:
    before = files(root)
    with pytest.raises(ImageError, match="not an image") as caught:
        take_content(session, uploaded(root, "notes.txt", b"not a picture"))
    assert session.shortened(str(caught.value)).startswith("notes.txt: not an image")
    data = session.styles[0].read_bytes()
    many = [uploaded(root, f"{i}.png", data) for i in range(MOST_STYLES + 1)]
    with pytest.raises(CdjaxError, match="7 paintings; at most 6 are mixed"):
        take_styles(session, many)
    assert files(root) == before


def test_a_stopped_picture_leaves_the_last_result(
    session: Session, root: Path, weights: Path
) -> None:
    paint(session, InterruptGuard(), lambda: load_model(weights), QUIET)
    before = files(root)
    guard = InterruptGuard()
    guard.interrupt()
    with pytest.raises(KeyboardInterrupt):
        paint(session, guard, lambda: load_model(weights), QUIET)
    assert files(root) == before


def test_samples_count_as_uploads(root: Path) -> None:
    sessions = Sessions(root)
    previews = take_samples(sessions.get("key"))
    assert [read_image(path).pixels.shape[0] for path in previews] == [512, 320]
    sessions.end("key")
    assert not list(root.iterdir())


def test_files_of_those_who_left_are_removed_and_others_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(root)
    for key in ("a", "b"):
        sessions.get(key).folder.mkdir()
    fresh, stray = uploaded(root, "fresh", b"fresh"), uploaded(root, "stray", b"stray")
    os.utime(stray.parent, (0, 0))
    sessions.get("b").used = time.monotonic() - 4000
    sessions.sweep()
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [fresh.parent.name, sessions.get("a").folder.name]
    )
    with sessions.get("a").working() as guard:
        sessions.end("a")
        with pytest.raises(KeyboardInterrupt), guard.protected():
            pass


def test_a_request_without_a_session_is_refused(root: Path) -> None:
    with pytest.raises(CdjaxError, match="without a session"):
        Sessions(root).get(None)
