"""The sheet of pictures: where each cell is and what it holds."""

import numpy as np
import pytest

from experiments.picture_sheet import Column, cell, draw_sheet, margins

SIZE = 64


def test_every_cell_holds_its_own_picture_and_nothing_covers_it():
    generator = np.random.default_rng(0)
    columns = [
        Column(
            f"column {i}\nof a long title indeed", generator.integers(0, 256, (3, SIZE, SIZE, 3))
        )
        for i in range(4)
    ]
    columns = [Column(c.title, c.pictures.astype(np.uint8)) for c in columns]
    sheet = draw_sheet(columns, ["a name\nwithout end " + 40 * "x"] * 3, size=SIZE)
    left, top = margins(SIZE)
    inside = np.zeros(sheet.shape[:2], bool)
    for i, column in enumerate(columns):
        for j in range(3):
            x, y = cell(j, i, SIZE)
            np.testing.assert_array_equal(sheet[y : y + SIZE, x : x + SIZE], column.pictures[j])
            assert not inside[y : y + SIZE, x : x + SIZE].any()
            inside[y : y + SIZE, x : x + SIZE] = True
    # Around the pictures there is white, and writing only above them and left of them.
    inside[:top] = True
    inside[:, :left] = True
    assert (sheet[~inside] == 255).all()
    for title in range(4):
        x, _ = cell(0, title, SIZE)
        assert (sheet[:top, x : x + SIZE] < 128).any()
    for row in range(3):
        _, y = cell(row, 0, SIZE)
        assert (sheet[y : y + SIZE, :left] < 128).any()
    # Long names stay in their boxes.
    assert (sheet[top:, left - 2 : left] == 255).all()


def test_a_column_of_other_pictures_is_refused():
    pictures = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    with pytest.raises(ValueError, match=r"one: pictures \(2, 64, 64, 3\), not \(3,"):
        draw_sheet([Column("one", pictures)], ["a", "b", "c"], size=SIZE)
