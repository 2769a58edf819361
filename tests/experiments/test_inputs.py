"""Pairs of contents and styles: which files, and what of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax.errors import ImageError, UsageError
from experiments.benchmarks.inputs import read_pairs
from tests.pictures import numbers, picture


def files(folder: Path, *names: int) -> Path:
    folder.mkdir()
    for number in names:
        picture(number).save(folder / f"{number}.png")
    return folder


def test_pairs_take_files_in_turn_and_folders_evenly(tmp_path: Path):
    many = files(tmp_path / "many", *range(8))
    styles = files(tmp_path / "styles", 3, 9)
    pairs = read_pairs([many], [styles], size=32, count=4)
    names, contents, chosen = zip(*pairs, strict=True)
    assert numbers(np.stack(contents)) == [0, 2, 4, 6]
    assert numbers(np.stack(chosen)) == [3, 9, 3, 9]
    assert names == ("0 in 3", "2 in 9", "4 in 3", "6 in 9")
    pairs = read_pairs([many / "5.png", many / "1.png"], [many / "3.png"], size=32, count=4)
    assert [name for name, _, _ in pairs] == ["5 in 3", "1 in 3"]


def test_pairs_are_central_squares(tmp_path: Path):
    folder = files(tmp_path / "one", 4)
    [(_, content, style)] = read_pairs([folder], [folder], size=22, count=1)
    whole = np.asarray(picture(4).resize((30, 22), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(content, whole[:, 4:26])
    np.testing.assert_array_equal(style, content)


def test_without_images_there_is_something_to_look_at():
    [(name, content, style)] = read_pairs([], [], size=48, count=4)
    assert name == "landscape in painting"
    assert content.shape == style.shape == (48, 48, 3)
    assert content.std() > 10
    assert (content != style).mean() > 0.9


def test_what_is_no_image_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"style .*none: no such file or folder"):
        read_pairs([], [tmp_path / "none"], size=32, count=1)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="broken"):
        read_pairs([tmp_path / "broken.png"], [], size=32, count=1)
