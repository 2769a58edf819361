"""Deep Zoom folders: their tiles are the picture, and a browser shows it from the disk."""

import hashlib
import io
import os
import re
import resource
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cdjax.errors import ImageError
from cdjax.io import deepzoom
from cdjax.io.deepzoom import VERSION, viewer_files, write_deepzoom
from cdjax.io.images import Picture, write_image
from cdjax.io.vips import open_image
from tests.image_files import smooth
from tests.models import random_image

pytest.importorskip("pyvips")

SCRIPT = b"// stands for OpenSeadragon"
CONTENTS = {"index.html", "image.dzi", "image_files", "openseadragon.min.js", "images"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a viewer of one line that passes for OpenSeadragon."""
    monkeypatch.setenv("CDJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(deepzoom, "_SHA256", hashlib.sha256(SCRIPT).hexdigest())
    return tmp_path / "cache"


@pytest.fixture
def viewer(cache: Path) -> Path:
    """A cache that holds that viewer already."""
    folder = cache / f"openseadragon-{VERSION}"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "home_rest.png").write_bytes(b"button")
    (folder / "openseadragon.min.js").write_bytes(SCRIPT)
    return folder


def fake_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, script: bytes = SCRIPT, escape: bool = False
) -> Path:
    """The only program on the path: hands out an archive like npm's."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    archive = programs / "archive"
    built = "package/build/openseadragon/"
    files = {
        f"{built}openseadragon.min.js": script,
        f"{built}images/home_rest.png": b"button",
        "package/LICENSE.txt": b"license",
    }
    if escape:
        files |= {"../escaped": b"evil", f"{built}images/../../../../../escaped": b"evil"}
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    npm = programs / "npm"
    copy = shutil.which("cp")
    npm.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "pack openseadragon@{VERSION}" ] || exit 1\n'
        f"{copy} {archive} openseadragon-{VERSION}.tgz\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return npm


def reassembled(folder: Path) -> NDArray[np.uint8]:
    """The picture of the largest level, by what image.dzi says."""
    text = (folder / "image.dzi").read_text()
    found = {key: int(value) for key, value in re.findall(r'(\w+)="(\d+)"', text)}
    size, overlap = found["TileSize"], found["Overlap"]
    level = max((folder / "image_files").iterdir(), key=lambda path: int(path.name))
    picture = np.zeros((found["Height"], found["Width"], 3), np.uint8)
    for path in level.iterdir():
        column, row = map(int, path.stem.split("_"))
        with Image.open(path) as file:
            tile = np.asarray(file)
        y, x = row * size, column * size
        tile = tile[overlap if row else 0 :, overlap if column else 0 :][:size, :size]
        picture[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return picture


@pytest.mark.parametrize("size", [(600, 900), (254, 255), (1, 1), (3, 700)])
def test_the_tiles_are_the_picture(tmp_path: Path, viewer: Path, size: tuple[int, int]) -> None:
    pixels = smooth(*size) // 2 + 60
    write_deepzoom(tmp_path / "out", pixels, title="a", quality=95)
    assert {path.name for path in (tmp_path / "out").iterdir()} == CONTENTS
    again = reassembled(tmp_path / "out")
    assert again.shape == pixels.shape
    # Where the colours wrap round, JPEG rings.
    assert np.abs(again.astype(int) - pixels).mean() < 3
    levels = {int(path.name) for path in (tmp_path / "out" / "image_files").iterdir()}
    assert levels == set(range(int(np.ceil(np.log2(max(size)))) + 1))
    assert (tmp_path / "out" / "openseadragon.min.js").read_bytes() == SCRIPT
    assert (tmp_path / "out" / "images" / "home_rest.png").read_bytes() == b"button"


def test_tiles_of_a_mapped_file_in_a_folder_of_any_name(tmp_path: Path, viewer: Path) -> None:
    pixels = np.memmap(tmp_path / "raw", np.uint8, "w+", shape=(300, 300, 3))
    pixels[:150] = 200
    folder = tmp_path / "a b[c=1].x"
    write_deepzoom(folder, pixels, title="a")
    assert np.abs(reassembled(folder).astype(int) - pixels).max() <= 12


def test_transparent_pictures_lie_on_white(tmp_path: Path, viewer: Path) -> None:
    alpha = np.full((40, 56), 255, np.uint8)
    alpha[:, :28] = 0
    write_image(tmp_path / "like.png", Picture(smooth(), alpha))
    black = np.zeros((40, 56, 3), np.uint8)
    like = open_image(tmp_path / "like.png")
    write_deepzoom(tmp_path / "out", black, title="a", like=like)
    shown = reassembled(tmp_path / "out")
    assert shown[:, :20].min() > 240
    assert shown[:, 36:].max() < 15


def test_the_title_is_text_and_nothing_else(tmp_path: Path, viewer: Path) -> None:
    title = "</title><script>alert('1')</script> & {viewer} ü"
    write_deepzoom(tmp_path / "out", smooth(), title=title)
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "alert('" not in page
    assert page.count("<script") == 2
    assert "<title>&lt;/title&gt;&lt;script&gt;" in page
    assert "&amp; {viewer} ü</title>" in page


def test_quality_is_passed_on(tmp_path: Path, viewer: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (250, 250, 3), np.uint8)
    sizes = []
    for quality in (10, 95):
        write_deepzoom(tmp_path / str(quality), pixels, title="a", quality=quality)
        sizes.append((tmp_path / str(quality) / "image_files" / "8" / "0_0.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_a_folder_is_replaced_only_on_demand_and_if_it_is_one_of_ours(
    tmp_path: Path, viewer: Path
) -> None:
    out = tmp_path / "out"
    write_deepzoom(out, smooth(), title="first")
    with pytest.raises(ImageError, match="out: already exists"):
        write_deepzoom(out, smooth(), title="second")
    assert "first" in (out / "index.html").read_text()
    write_deepzoom(out, smooth(9, 9), title="second", overwrite=True)
    assert "second" in (out / "index.html").read_text()
    assert reassembled(out).shape == (9, 9, 3)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter").write_text("dear")
    with pytest.raises(ImageError, match="precious: is not a Deep Zoom folder and is not replaced"):
        write_deepzoom(tmp_path / "precious", smooth(), title="a", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "out", "precious"}


def test_other_files_in_a_folder_that_is_replaced_are_kept(tmp_path: Path, viewer: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    write_deepzoom(out, smooth(600, 700), title="first")
    others = ["thesis.tex", "notes/a", "images/mine.png", "image_files/list", "image_files/9/a.jpg"]
    for name in others:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(name)
    link.symlink_to("out")
    write_deepzoom(link, smooth(30, 40), title="second", overwrite=True)
    assert link.is_symlink()
    for name in others:
        assert (out / name).read_text() == name
        (out / name).unlink()
    (out / "notes").rmdir()
    (out / "image_files" / "9").rmdir()
    assert reassembled(out).shape == (30, 40, 3)
    write_deepzoom(tmp_path / "fresh", smooth(30, 40), title="second")
    files = [
        {path.relative_to(of): path.read_bytes() for path in of.rglob("*") if path.is_file()}
        for of in (out, tmp_path / "fresh")
    ]
    assert files[0] == files[1]
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "out", "link", "fresh"}


@pytest.mark.parametrize("lacking", [1, 20, 3000])
def test_a_tile_that_is_cut_off_fails_the_write(tmp_path: Path, viewer: Path, lacking: int) -> None:
    pixels = random_image(200, 200)
    write_deepzoom(tmp_path / "whole", pixels, title="a")
    size = (tmp_path / "whole" / "image_files" / "8" / "0_0.jpg").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - lacking, hard))
    try:
        with pytest.raises(ImageError, match="out: cannot be written"):
            write_deepzoom(tmp_path / "out", pixels, title="a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "whole"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_write_that_fails_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, viewer: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    out = tmp_path / "out"
    if overwrite:
        write_deepzoom(out, smooth(), title="first")
    rename = os.rename

    def fail(source: Path, target: Path) -> None:
        if str(source).endswith(".part"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(ImageError, match=r"out: cannot be written \(No space left on device\)"):
        write_deepzoom(out, smooth(), title="second", overwrite=overwrite)
    assert {path.name for path in tmp_path.iterdir()} == {"cache"} | (
        {"out"} if overwrite else set()
    )
    if overwrite:
        assert "first" in (out / "index.html").read_text()


def test_folders_around_it_are_made(tmp_path: Path, viewer: Path) -> None:
    write_deepzoom(tmp_path / "new" / "out", smooth(), title="a")
    assert reassembled(tmp_path / "new" / "out").shape == smooth().shape
    with pytest.raises(ImageError, match=r"cannot be written \(File exists\)"):
        write_deepzoom(tmp_path / "new" / "out" / "index.html" / "out", smooth(), title="a")


def test_the_viewer_is_fetched_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = fake_npm(tmp_path, monkeypatch)
    folder = viewer_files()
    assert folder == cache / f"openseadragon-{VERSION}"
    assert (folder / "openseadragon.min.js").read_bytes() == SCRIPT
    assert (folder / "images" / "home_rest.png").is_file()
    assert list(cache.iterdir()) == [folder]
    npm.unlink()
    assert viewer_files() == folder
    write_deepzoom(tmp_path / "out", smooth(), title="a")
    assert (tmp_path / "out" / "openseadragon.LICENSE.txt").read_bytes() == b"license"


def test_a_damaged_viewer_is_fetched_again(
    tmp_path: Path, viewer: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path, monkeypatch)
    (viewer / "openseadragon.min.js").write_bytes(b"damaged")
    assert (viewer_files() / "openseadragon.min.js").read_bytes() == SCRIPT
    assert list(cache.iterdir()) == [viewer]


def test_nothing_but_the_viewer_is_taken_out_of_its_package(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path, monkeypatch, escape=True)
    viewer = viewer_files()
    found = {path.relative_to(viewer).as_posix() for path in viewer.rglob("*")}
    assert found == {"openseadragon.min.js", "LICENSE.txt", "images", "images/home_rest.png"}
    assert {path.name for path in tmp_path.rglob("*") if "escaped" in path.name} == set()


@pytest.mark.parametrize("kind", ["none", "failing", "another script"])
def test_why_there_is_no_viewer_is_said(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    script = b"another" if kind == "another script" else SCRIPT
    npm = fake_npm(tmp_path, monkeypatch, script=script)
    if kind == "none":
        npm.unlink()
    elif kind == "failing":
        npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    reason = {
        "none": "npm is not installed",
        "failing": "npm pack failed: npm error code ENOTFOUND",
        "another script": "another openseadragon.min.js than expected",
    }[kind]
    with pytest.raises(
        ImageError, match=f"needs npm .*{reason}.*; or copy openseadragon"
    ) as caught:
        write_deepzoom(tmp_path / "out", smooth(), title="a")
    assert "\n" not in str(caught.value)
    assert str(cache / f"openseadragon-{VERSION}") in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "programs"}


def test_a_browser_shows_the_picture_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium")
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which fetches OpenSeadragon")
    monkeypatch.setenv("CDJAX_CACHE", str(tmp_path / "cache"))
    try:
        viewer_files()
    except ImageError as error:
        if "npm pack failed" not in str(error):
            raise
        pytest.skip(f"npm cannot fetch OpenSeadragon: {error}")
    pixels = np.zeros((1100, 1500, 3), np.uint8)
    colours = {(0, 0): (200, 0, 0), (0, 1): (0, 180, 0), (1, 0): (0, 0, 220), (1, 1): (230, 200, 0)}
    for (down, across), colour in colours.items():
        pixels[down * 550 :, across * 750 :][:550, :750] = colour
    write_deepzoom(tmp_path / "out", pixels, title="Four quadrants")
    shot = tmp_path / "shot.png"
    command = [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--virtual-time-budget=10000", "--window-size=800,600", "--hide-scrollbars"),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={shot}",
        (tmp_path / "out" / "index.html").as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(shot) as file:
        seen = np.asarray(file.convert("RGB")).astype(int)
    height, width = seen.shape[:2]
    # The picture fills the width or the height; its middle is the window's.
    for (down, across), colour in colours.items():
        y, x = height // 2 + (2 * down - 1) * 120, width // 2 + (2 * across - 1) * 150
        patch = seen[y - 20 : y + 20, x - 20 : x + 20]
        assert np.abs(patch - colour).max() <= 12, (down, across)
