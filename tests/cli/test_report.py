"""Tables and JSON of reports."""

import json

from cdjax.cli.report import MISSING, aligned, as_json, number, table


def test_an_infinite_psnr_is_json() -> None:
    quality = {"psnr": float("inf"), "ssim": 1.0, "of": [float("nan")]}
    assert json.loads(as_json(quality)) == {"psnr": None, "ssim": 1.0, "of": [None]}


def test_a_markdown_table_aligns_its_numbers() -> None:
    assert table(["", "s"], [["a", "1"], ["b", "2"]]).splitlines() == [
        "|  | s |",
        "| --- | ---: |",
        "| a | 1 |",
        "| b | 2 |",
    ]
    assert [number(None), number(1234.5), number(2e6, ".1f", scale=1e6)] == [
        MISSING,
        "1,234",
        "2.0",
    ]


def test_an_aligned_table_has_columns_of_equal_width() -> None:
    rows = [("name", "size"), ("a", "10"), ("longer", "5")]
    assert aligned(rows, right=(1,)).splitlines() == [
        "name    size",
        "a         10",
        "longer     5",
    ]
