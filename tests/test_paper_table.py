"""`evaluate --table`: its counts against counts by hand, its line, and the command end to end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Config, Model, Spec, save_model, student, stylize
from cdjax.checkpoint import abstract_params
from cdjax.image import levels, read_image
from cdjax.spec import VGG16_DEPTHS
from experiments import evaluate, paper_table
from experiments.measure import WorkerError
from experiments.picture_sheet import cell, read_pairs
from experiments.table_measurements import Line, Peak, Taken, Ways, fit_line
from experiments.table_report import ratios_of
from experiments.table_rows import Pair, model_row, original_name, original_spec, sort_models
from tests.evaluated import lone
from tests.models import random_model

SMALL = (Spec(2, (3, 4)), Spec(1, (5,)))
ADAIN = (Spec(1, (4,)),)


def counted(specs: tuple[Spec, ...], *, method: Any = "wct") -> Pair:
    """A model and its original that have shapes and no numbers."""
    rows = []
    for of in (tuple(map(original_spec, specs)), specs):
        config = Config(method, of, "none")
        model = Model(abstract_params(config, embeddings=method == "wct"), config)
        rows.append(model_row("name", model, trained=False, stored=None, taken=None))
    return Pair(*rows)


def test_wct_equals_counts_by_hand() -> None:
    pair = counted(tuple(student(stage) for stage in (5, 4, 3, 2, 1)))
    assert pair.compressed.parameters == 2_146_003
    assert pair.original.parameters == 34_239_371
    assert ratios_of(pair, None)[0] == pytest.approx(15.95, abs=0.005)
    macs = 648 + 3888 + 7344 + 15408 + 22896
    # An encoder for content and for style, a decoder; a multiplication and an addition.
    assert pair.compressed.gflops == pytest.approx(3 * 2 * macs * 3000**2 / 1e9)
    # VGG-19's widths: each stage ends with the first convolution of its last block.
    one, two = 9 * 3 * 64, 9 * (64 * 64 + 64 * 128 / 4)
    three, four = 9 * (128 * 128 / 4 + 128 * 256 / 16), 9 * (3 * 256**2 / 16 + 256 * 512 / 64)
    five = 9 * (3 * 512**2 / 64 + 512 * 512 / 256)
    macs = 5 * one + 4 * two + 3 * three + 2 * four + five
    assert pair.original.gflops == pytest.approx(3 * 2 * macs * 3000**2 / 1e9)
    assert pair.original.float32_bytes == 4 * 34_239_371


def test_adain_equals_counts_by_hand() -> None:
    pair = counted((student(4),), method="adain")
    assert pair.compressed.method == "adain"
    shapes = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 64), *3 * [(64, 64)], (64, 128)]
    kernels = sum(9 * a * b for a, b in shapes)
    biases = sum(b for _, b in shapes), sum(a for a, _ in shapes)
    assert pair.compressed.parameters == 12 + 2 * kernels + sum(biases)
    assert pair.compressed.gflops == pytest.approx(3 * 2 * 15408 * 3000**2 / 1e9)
    assert ratios_of(pair, None)[3] == pytest.approx(pair.original.gflops / pair.compressed.gflops)


def test_the_line_of_memory_is_that_of_made_up_peaks() -> None:
    peaks = [Peak(size, 3 * 10**8 + 700 * size**2) for size in (512, 717, 1024)]
    line = fit_line(peaks)
    assert line.base == pytest.approx(3e8)
    assert line.per_pixel == pytest.approx(700)
    assert line.residual < 1
    side = line.largest_side(12 * 10**9)
    assert side == 4080  # 4088.5, in whole positions of stage 5


def test_the_line_says_how_far_it_is_off() -> None:
    # 0, 1, 4 and 9 pixels: y = 10 + 2 x with one peak 7 above.
    line = fit_line([Peak(side, 10 + 2 * side**2 + 7 * (side == 1)) for side in range(4)])
    slope, base = np.polyfit([0, 1, 4, 9], [10, 19, 18, 28], 1)
    assert (line.per_pixel, line.base) == pytest.approx((slope, base))
    assert line.residual == pytest.approx(19 - base - slope)


def test_a_line_that_does_not_rise_tells_no_size() -> None:
    assert fit_line([Peak(32, 500), Peak(64, 500)]).largest_side(10**9) is None
    assert fit_line([Peak(32, 500), Peak(64, 400)]).largest_side(10**9) is None
    assert Line(2e9, 100.0, 0.0).largest_side(10**9) == 0


def test_models_are_students_originals_or_of_no_use() -> None:
    models = {
        "student": random_model(SMALL),
        "teacher": random_model((Spec(1, (64,)),)),
        "lone": lone(random_model(SMALL)),
    }
    found = sort_models(models)
    assert list(found.compressed) == ["student"]
    assert list(found.originals) == ["teacher"]
    assert found.left_out == {"lone": "a lone encoder, which cannot stylise"}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a WCT model, an AdaIN model, the former's original and a lone encoder."""
    monkeypatch.setattr(paper_table, "use_compilation_cache", lambda: None)
    monkeypatch.setattr("cdjax.bundled._FOLDER", tmp_path / "bundled")
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
    line = Line(10.0**9, per_pixel, 2e6)
    peaks = tuple(Peak(size, 10**6 * mb) for size, mb in ((512, 1000), (717, 1500), (1024, 2000)))
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
        ["VGG-19", "adain, 1", "random"],
        ["mean", "adain, 1", "trained"],
        ["**ratio**", "", ""],
        ["large", "wct, 2 1", "trained"],
        ["small", "wct, 2 1", "trained"],
        ["**ratio**", "", ""],
    ]
    assert len(measured) == 4
    stored = sum(p.stat().st_size for p in (work / "models/large").rglob("*") if p.is_file())
    assert main[4][5] == f"{stored / 1e6:,.2f}"
    assert main[1][5] == main[3][5] == "-"
    # sqrt(11e9 / 40) and sqrt(11e9 / 10) pixels a side, in multiples of 16.
    assert main[4][7:] == ["3", "2,000", f"{16576**2 / 1e6:,.1f}"]
    assert main[5][7:] == ["3", "2,000", f"{33152**2 / 1e6:,.1f}"]
    assert main[6][7:] == ["1.00", "1.00", "0.25"]
    peaks, line = ["1,000", "1,500", "2,000"], ["1,000", "40", "2"]
    assert fits[3] == ["large (wct, 2 1)", *peaks, *line, "16576", "no"]
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such directory"),
        (["models/lone"], "no compressed model among models/lone"),
        (["--models", "none"], "no compressed model among none"),
        (["models/small", "--stages", "3"], "models/small: it has the stages 2, 1, not all of 3"),
        (["models/small", "--teacher", "models/lone"], "--teacher models/lone: no original"),
        (["models/small", "models/small"], "a model is given twice"),
        (["--limit", "much"], "'much' is no size such as"),
        (["--runs", "-1"], "'-1' is no whole number from 0"),
        (["--table-size", "8"], "'8' is no whole number from 32"),
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


def test_the_help_of_evaluate_tells_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in ((["--help"], "--table [MODEL...]"), (["--table", "--help"], "--limit")):
        with pytest.raises(SystemExit, match="0"):
            evaluate.main(arguments)
        assert told in capsys.readouterr().out


def test_originals_are_called_by_their_depth() -> None:
    vgg16, vgg19 = Spec(2, (64, 128), VGG16_DEPTHS), Spec(2, (64, 128))
    assert original_spec(Spec(2, (3, 4), VGG16_DEPTHS)) == vgg16
    assert [original_name([spec]) for spec in (vgg16, vgg19)] == ["VGG-16", "VGG-19"]
    assert original_name([vgg16, vgg19]) == original_name([Spec(2, (64, 128), (1, 1, 1, 1, 1))])
