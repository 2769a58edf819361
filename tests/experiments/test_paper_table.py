"""The command `evaluate --table` from models to its table, its JSON, its sheet and its errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Model, Spec, save_model, stylize
from cdjax.io.images import levels, read_image
from experiments import evaluate, measure_gatys, paper_table, table_pictures
from experiments.measure import WorkerError, worker
from experiments.picture_pairs import read_pairs
from experiments.picture_sheet import cell
from experiments.table_measurements import Line, Peak, Taken, Ways
from experiments.table_rows import (
    gatys_model,
    original_spec,
)
from tests.evaluated import lone
from tests.models import random_image, random_model

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = (Spec(2, (3, 4)), Spec(1, (5,)))
ADAIN = (Spec(1, (4,)),)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a WCT model, an AdaIN model, the former's original and a lone encoder."""
    monkeypatch.setattr(paper_table, "use_compilation_cache", lambda: None)
    monkeypatch.setattr("cdjax.checkpoints.pretrained._FOLDER", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    models = {
        "small": random_model(SMALL),
        "mean": random_model(ADAIN, method="adain"),
        "large": random_model(tuple(map(original_spec, SMALL)), seed=2),
        "lone": lone(random_model(SMALL)),
    }
    for name, model in models.items():
        save_model(tmp_path / "models" / name, model)
    return tmp_path


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every table, header first, without the ruler."""
    found: list[list[list[str]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


def test_the_command_measures_in_processes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", "2", "--table-size", "64", "--fit-sizes", "32", "--limit", "500MB"]
    arguments = ["--table", "models/small", "--stages", "1", *options, "--json", "out.json"]
    assert evaluate.main(arguments) == 0
    streams = capsys.readouterr()
    assert [line.split(",")[0] for line in streams.err.splitlines()] == [
        "small (wct) 32 pixels",
        "small (wct) 64 pixels",
        "VGG-19 (wct) 32 pixels",
        "VGG-19 (wct) 64 pixels",
    ]
    found = json.loads((work / "out.json").read_text())
    (pair,) = found["pairs"]
    main, fits = tables(streams.out)
    assert main[0][7:] == [
        "s at 64x64",
        "peak at 64x64, MB",
        "largest under 0.5 GB, megapixels",
    ]
    rows = {"original": main[1], "compressed": main[2]}
    assert [row[:3] for row in main[1:]] == [
        ["VGG-19", "wct, 1", "random"],
        ["small", "wct, 1", "trained"],
        ["**ratio**", "", ""],
    ]
    for name, cells in rows.items():
        row, taken = pair[name], pair[name]["taken"]
        assert taken["platform"] == "cpu"
        assert len(taken["seconds"]) == 2
        assert min(taken["seconds"]) > 0
        assert float(cells[7]) == pytest.approx(np.median(taken["seconds"]), rel=0.01)
        assert [peak["size"] for peak in taken["peaks"]] == [32, 64]
        assert int(cells[8]) == round(taken["peaks"][1]["bytes"] / 1e6)
        assert 10**8 < taken["peaks"][0]["bytes"] < 10**10
        assert int(cells[3].replace(",", "")) == row["parameters"]
    width = {"compressed": 5, "original": 64}
    for name, wide in width.items():
        expected = 12 + 27 * wide + wide + 27 * wide + 3
        assert pair[name]["parameters"] == expected
    seconds = [np.median(pair[name]["taken"]["seconds"]) for name in rows]
    assert pair["ratios"]["seconds"] == pytest.approx(seconds[0] / seconds[1])
    assert [row[0] for row in fits[1:]] == ["VGG-19 (wct, 1)", "small (wct, 1)"]
    assert all(row[-1] == "no" for row in fits[1:])


def made_up(per_pixel: float) -> Taken:
    line = Line(10.0**9, per_pixel, 2e6, 1e9)
    peaks = tuple(Peak(size, 10**6 * mb) for size, mb in ((768, 1000), (1024, 2000), (1408, 3000)))
    return Taken("cpu", "cpu", (1.0, 3.0, per_pixel), peaks, line, line.largest_side(12 * 10**9))


def test_the_command_on_every_model_in_a_folder(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(folder: Path, model: Model, ways: Ways, **_: Any) -> Taken:
        measured.append((model.config.method, model.config.specs))
        return made_up(40.0 if model.config.specs[0].widths[0] == 64 else 10.0)

    monkeypatch.setattr(paper_table, "measure_model", measure)
    options = ["--sheet", "sheet.png", "--sheet-size", "32", "--json", "out.json"]
    assert evaluate.main(["--table", *options]) == 0
    assert sorted(path.name for path in work.iterdir()) == ["models", "out.json", "sheet.png"]
    text = capsys.readouterr().out
    main, fits = tables(text)
    assert [row[:3] for row in main[1:]] == [
        ["large", "wct, 2 1", "trained"],
        ["small", "wct, 2 1", "trained"],
        ["**ratio**", "", ""],
        ["VGG-19", "adain, 1", "random"],
        ["mean", "adain, 1", "trained"],
        ["**ratio**", "", ""],
    ]
    assert len(measured) == 4
    stored = sum(p.stat().st_size for p in (work / "models/large").rglob("*") if p.is_file())
    assert main[1][5] == f"{stored / 1e6:,.2f}"
    assert main[4][5] == main[6][5] == "-"
    # sqrt(11e9 / 40) and sqrt(11e9 / 10) pixels a side, in multiples of 16.
    assert main[1][7:] == ["3", "2,000", f"{16576**2 / 1e6:,.1f}"]
    assert main[2][7:] == ["3", "2,000", f"{33152**2 / 1e6:,.1f}"]
    assert main[3][7:] == ["1.00", "1.00", "0.25"]
    peaks, line = ["1,000", "2,000", "3,000"], ["1,000", "40", "2 MB, 0%"]
    assert fits[1] == ["large (wct, 2 1)", *peaks, *line, "16576", "no"]
    assert "- lone: a lone encoder, which cannot stylise" in text

    # Content, style, teacher, students: each picture is what the model makes.
    sheet = read_image("sheet.png").pixels
    pairs = read_pairs([], [], size=32, count=4)
    models = [
        random_model(tuple(map(original_spec, SMALL)), seed=2),
        random_model(ADAIN, method="adain"),
        random_model(SMALL),
    ]
    made = [stylize(model, pairs.contents[0], pairs.styles[0]) for model in models]
    expected = [pairs.contents[0], pairs.styles[0], *(levels(np.asarray(image)) for image in made)]
    for i, picture in enumerate(expected):
        x, y = cell(0, i, 32)
        np.testing.assert_array_equal(sheet[y : y + 32, x : x + 32], picture, str(i))
    assert sheet.shape[1] == cell(0, len(expected), 32)[0]


def test_without_a_teacher_the_sheet_says_so(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--runs", "0", "--sheet", "sheet.png", "--sheet-size", "32"]
    assert evaluate.main(["--table", "models/small", *options]) == 0
    text = capsys.readouterr().out
    assert "no teacher column" in text
    assert len(tables(text)) == 1  # Nothing was measured.
    assert tables(text)[0][0][-1] == "GFLOP at 3000x3000"
    assert read_image("sheet.png").pixels.shape[1] == cell(0, 3, 32)[0]


def test_gatys_has_rows_and_a_column(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = random_model((Spec(5, (3, 4, 5, 6, 7), (1, 1, 1, 2, 1)),))
    save_model(work / "models" / "deep", deep)

    def optimize(model: Model, content: Any, style: Any, *, settings: Any) -> Any:
        assert list(model.params["stage5"]) == ["encoder"]
        assert settings.steps == 7
        return 1 - content / 255

    monkeypatch.setattr(table_pictures, "optimize_image", optimize)
    options = ["--runs", "0", "--sheet", "sheet.png", "--sheet-size", "32", "--gatys-steps", "7"]
    assert evaluate.main(["--table", "--methods", "gatys", *options]) == 0
    text = capsys.readouterr().out
    assert [row[:3] for row in tables(text)[0][1:]] == [
        ["VGG's widths", "gatys, 5", "random"],
        ["deep", "gatys, 5", "trained"],
        ["**ratio**", "", ""],
    ]
    sheet = read_image("sheet.png").pixels
    assert sheet.shape[1] == cell(0, 3, 32)[0]
    content, result = (sheet[y : y + 32, x : x + 32] for x, y in (cell(0, i, 32) for i in (0, 2)))
    np.testing.assert_array_equal(result, 255 - content)


def test_a_step_of_gatys_is_measured_in_a_process(tmp_path: Path) -> None:
    encoder = gatys_model(random_model((Spec(5, (3, 4, 5, 6, 7), (1, 1, 1, 2, 1)),)))
    assert encoder is not None
    save_model(tmp_path / "checkpoint", encoder)
    for name in ("content", "style"):
        np.save(tmp_path / f"{name}.npy", random_image(32, 32))
    module = "experiments.measure_gatys"
    with worker("gatys", tmp_path, dtype="float32", module=module) as process:
        process.ask("images")
        answer = process.ask("run")
    assert sorted(answer) == ["peak", "seconds"]
    assert 10**8 < answer["peak"] < 10**10


def test_seconds_of_a_step_leave_out_start_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def optimize(steps: int) -> None:
        now[0] += 30 + 2.5 * steps

    monkeypatch.setattr(measure_gatys.time, "perf_counter", lambda: now[0])
    assert measure_gatys.step_seconds(optimize) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["models/lone"], "no compressed model among models/lone"),
        (["--models", "none"], "no compressed model among none"),
        (["models/small", "--stages", "3"], "models/small: it has the stages 2, 1, not all of 3"),
        (["models/small", "--teacher", "models/lone"], "--teacher models/lone: no original"),
        (["models/small", "models/small"], "a model is given twice"),
        (["--limit", "much"], "'much' is no size such as"),
        (["--runs", "-1"], "'-1' is no whole number from 0"),
        (["--table-size", "63"], "'63' is no whole number from 64"),
        (["--table-size", "64", "--fit-sizes", "64"], "another size than --table-size"),
        (["--runs", "0", "--verify"], "--verify needs --runs"),
        (["--sheet", "sheet.gif"], "unknown suffix '.gif'"),
        (["--sheet", "none/sheet.png"], "there is no directory"),
        (["--json", "models"], "models is a directory"),
        (["--sheet", "out.png", "--json", "out.png"], "--json and --sheet are one file"),
        (["--sheet", "out.png", "--contents", "none.jpg"], "content none.jpg: no such file"),
    ],
)
def test_bad_input_is_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = sorted(path.name for path in work.iterdir())
    try:
        status = evaluate.main(["--table", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("evaluate: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in work.iterdir()) == before


def test_a_process_that_fails_is_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Taken:
        raise WorkerError("the cdjax worker ended with -9 (out of memory?)")

    monkeypatch.setattr(paper_table, "measure_model", fail)
    assert evaluate.main(["--table", "models/small"]) == 1
    assert capsys.readouterr().err == "evaluate: the cdjax worker ended with -9 (out of memory?)\n"


def test_a_file_that_cannot_be_written_comes_after_the_table(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(paper_table, "write_text", full)
    assert evaluate.main(["--table", "models/small", "--runs", "0", "--json", "out.json"]) == 1
    out, err = capsys.readouterr()
    assert "**ratio**" in out
    assert err.endswith("not all files are: No space left on device\n")


def test_the_help_of_evaluate_tells_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in ((["--help"], "--table [MODEL...]"), (["--table", "--help"], "--limit")):
        with pytest.raises(SystemExit, match="0"):
            evaluate.main(arguments)
        assert told in capsys.readouterr().out
