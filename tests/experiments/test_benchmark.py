"""The benchmarks from their arguments to tables and JSON: one real run, the others made up."""

import ast
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Model, Spec, save_model, student, teacher
from experiments import benchmark
from experiments.benchmarks import gatys, stylization, tiles, ways
from experiments.benchmarks.inputs import read_pairs
from experiments.benchmarks.report import report
from experiments.benchmarks.worker import ROOT, worker
from tests.experiments.fakes import tables, worker_that
from tests.models import encode, random_model
from tests.pictures import picture

SMALL = (Spec(2, (3, 4)), Spec(1, (5,)))
SECONDS = {"cdjax": 2.0, "tuned PyTorch": 3.0, "plain PyTorch": 5.0}
DEPTHS = (1, 1, 1, 2, 1)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ways, "PAUSE", 0)
    save_model("small", random_model(SMALL))
    return tmp_path


def test_a_real_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of processes; with PyTorch where it is installed."""
    options = ["--weights", "small", "--sizes", "32", "--runs", "2"]
    assert benchmark.main([*options, "--output", "report.md", "--json", "out.json"]) == 0
    text, found = Path("report.md").read_text(), json.loads(Path("out.json").read_text())
    assert capsys.readouterr().out == text
    row = found["rows"]["32"]
    ours = row["taken"]["cdjax"]
    assert len(ours["seconds"]) == 2
    assert 0 < min(ours["seconds"]) < 60
    assert 10**8 < ours["peak"] < 10**10
    assert set(row["taken"]) == set(found["names"]) == set(ways.available())
    header, cells = tables(text)["Seconds"]
    shown = dict(zip(header, cells, strict=True))["cdjax, s"]
    assert float(shown.split()[0]) == pytest.approx(np.median(ours["seconds"]), rel=0.01)
    if "tuned" in row["taken"]:
        assert row["figures"]["largest difference, of 255"] < 0.5


def test_pytorch_stands_beside_cdjax_with_the_tuned_ratio_first(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: dict[str, tuple[Mapping[str, Any], str]] = {}

    def made_up(name: str, task: Mapping[str, Any], *, allocator: str, **_: Any) -> Any:
        started[name] = task, allocator
        peak = {"cdjax": 100, "tuned PyTorch": 150, "plain PyTorch": 250}[name] * 2**20
        of = worker_that(lambda *_: {"seconds": SECONDS[name], "peak": peak, "loss": 1.0})
        return of(name, task)

    monkeypatch.setattr(ways, "worker", made_up)
    monkeypatch.setattr(ways, "available", lambda: ways.NAMES)
    monkeypatch.setattr(stylization, "_flicker", lambda model, smoothing: 1.0 / smoothing)
    heads = ["tuned PyTorch / cdjax", "plain PyTorch / cdjax"]
    sizes = ["--weights", "small", "--sizes", "32", "48", "--runs", "1"]
    steps = ["--training", "--stages", "2", "--crop", "32", "--batch", "2"]
    film = ["--video", "--weights", "small", "--sizes", "32", "--runs", "1", "--frames", "6"]
    for options, names in ((film, ["64 x 32"]), (sizes, ["32", "48"]), (steps, ["2"])):
        assert benchmark.main(options) == 0
        found = tables(capsys.readouterr().out)
        for heading, values in (
            ("Seconds", ["2", "3", "5"]),
            ("Peak memory", ["100", "150", "250"]),
        ):
            header, *rows = found[heading]
            assert header[1:3] == heads
            assert [row[0] for row in rows] == names
            for row in rows:
                assert row[1:6] == ["1.50", "2.50", *values]
        tuned, plain = started["tuned PyTorch"], started["plain PyTorch"]
        assert (tuned[0]["tuned"], plain[0]["tuned"]) == (True, False)
        assert tuned[1] == started["cdjax"][1] != plain[1] == ""
    assert dict(zip(header, rows[0], strict=True)).keys() >= set(heads)
    # conv1_1, conv1_2 at full size, conv2_1 at a quarter of the pixels; two a product.
    big, small = (
        2 * sum(c.features_in * c.features_out * 9 / (4 if c.name == "conv2_1" else 1) for c in s)
        for s in (teacher(2).encoder, student(2).encoder)
    )
    speed = 2 * 32**2 * (5 * big + 3 * small) / 2 / 1e9
    assert float(found["Seconds"][1][7]) == pytest.approx(speed, rel=1e-3)


def test_ratios_are_of_medians_and_what_is_missing_is_a_dash() -> None:
    taken = {
        "a": {"seconds": [4.0, 1.0, 2.0], "peak": 2**21},
        "b": {"seconds": [3.0], "peak": 2**20},
        "c": "does not fit",
    }
    results = {
        "title": "Title",
        "command": "command",
        "processor": "p",
        "cores": 2,
        "system": "Linux",
        "versions": {"cdjax": "1"},
        "settings": {"weights": "w"},
        "first": "size",
        "names": {"a": "A", "b": "B", "c": "C", "d": "D"},
        "rows": {"64": {"taken": taken, "figures": {"speed": 12345.6}}},
        "note": "The note.\n",
    }
    found = tables(report(results))
    assert found["Seconds"] == [
        ["size", "B / A", "C / A", "D / A", "A, s", "B, s", "C, s", "D, s", "speed"],
        ["64", "1.50", "-", "-", "2 (1 to 4)", "3", "does not fit", "-", "1.235e+04"],
    ]
    assert found["Peak memory"][1] == ["64", "0.50", "-", "-", "2", "1", "does not fit", "-"]


def test_windows_beside_the_whole_picture(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(name: str, task: Mapping[str, Any], content: np.ndarray) -> dict[str, Any]:
        assert ("windows" in task) == (name == "windows")
        seconds = (1.0 if name == "windows" else 2.0) * content.shape[0] * content.shape[1] / 1e6
        return {"seconds": seconds + 0.5, "compiling": 0.5, "peak": 2**20}

    monkeypatch.setattr(tiles, "worker", worker_that(answer))
    monkeypatch.setattr(tiles, "WARM_UP_TO", 0.01)
    options = [
        "--ultra",
        "--weights",
        "small",
        "--megapixels",
        "0.02",
        "0.004",
        "--json",
        "out.json",
    ]
    assert benchmark.main([*options, "--memory", "1MB"]) == 0
    found = json.loads(Path("out.json").read_text())
    assert list(found["rows"]) == ["0.02: 144 x 144", "0.004: 64 x 64"]
    large, small = (row["figures"] for row in found["rows"].values())
    # Compilation is left out where no warm-up came first.
    assert large["compiling, s"] == 0.5
    assert large["s per 10^6 pixels without"] == pytest.approx(1)
    assert small["compiling, s"] == 0
    assert large["largest difference, of 255"] == 0
    rows = tables(capsys.readouterr().out)["Seconds"]
    assert rows[0][1] == "whole picture / windows"
    assert float(rows[1][1]) == pytest.approx((0.5 + 2 * 0.0207) / (0.5 + 0.0207), abs=0.01)


def test_shapes_of_many_megapixels() -> None:
    assert [tiles.shape_of(megapixels) for megapixels in (1, 4, 40, 100)] == [
        (1024, 1024),
        (2048, 2048),
        (4096, 10240),
        (10240, 10240),
    ]
    for megapixels in (0.3, 7, 60.5):
        height, width = tiles.shape_of(megapixels)
        assert height % 16 == width % 16 == 0
        assert height * width == pytest.approx(megapixels * 2**20, rel=0.1)


def encoder(widths: tuple[int, ...], *, seed: int) -> Model:
    whole = random_model((Spec(5, widths, DEPTHS),), seed=seed)
    params = {"stage5": {"encoder": whole.params["stage5"]["encoder"]}}
    return Model(params, dataclasses.replace(whole.config, method="encoder"))


def test_student_and_teacher_on_several_pairs(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    big = encoder((3, 4, 5, 6, 4), seed=3)
    save_model("student", encoder((2, 3, 3, 4, 3), seed=4))
    save_model("teacher", big)
    for number in (1, 2, 3):
        picture(number, width=40 + number).save(f"{number}.png")
    met: list[Mapping[str, Any]] = []

    def answer(name: str, task: Mapping[str, Any], content: np.ndarray) -> dict[str, Any]:
        met.append(task)
        seconds = (1.0 if name == "student" else 3.0) * (1 + round(content[..., 2].mean() / 20))
        return {"seconds": seconds, "peak": 2**20}

    monkeypatch.setattr(gatys, "worker", worker_that(answer))
    options = ["--gatys", "--weights", "student", "--teacher", "teacher", "--sizes", "32"]
    options += ["--contents", "1.png", "2.png", "--styles", "3.png", "--pairs", "4"]
    options += ["--steps", "12", "--finish-steps", "5", "--json", "out.json"]
    assert benchmark.main(options) == 0
    # The programs are compiled before; finishing steps are the student's.
    steps = [(t["settings"]["steps"], t["settings"]["finish_steps"]) for t in met]
    assert steps == [(2, 1), (1, 0), *2 * [(12, 5), (12, 0)]]
    assert [bool(task["finish"]) for task in met] == 3 * [True, False]
    header, first, second, both = tables(capsys.readouterr().out)["Seconds"]
    assert header[1:4] == ["teacher / student", "student, s", "teacher, s"]
    assert first[:4] == ["32, 1 in 3", "3.00", "2", "6"]
    assert second[:4] == ["32, 2 in 3", "3.00", "3", "9"]
    assert both[:4] == ["32, 2 pairs", "3.00", "2.5 (2 to 3)", "7.5 (6 to 9)"]
    rows = json.loads(Path("out.json").read_text())["rows"]
    # The made-up results are the contents themselves.
    names = ["32, 1 in 3", "32, 2 in 3"]
    distances = [rows[name]["distances"] for name in names]
    for of in distances:
        assert of["content"] == pytest.approx(of["student"], rel=1e-4)
    [(_, *pair)] = read_pairs([Path("1.png")], [Path("3.png")], size=32, count=1)
    flat = [
        encode(big.config.specs[0], big.params["stage5"]["encoder"], image / 255)["relu2_1"]
        for image in pair
    ]
    grams = [np.einsum("hwi,hwj->ij", f, f) / f[..., 0].size for f in flat]
    wanted = np.square(grams[0] - grams[1]).mean()
    assert distances[0]["student"]["relu2_1"] == pytest.approx(wanted, rel=0.02)
    mean = rows["32, 2 pairs"]["figures"]["distance of the student"]
    assert mean == pytest.approx(np.mean([sum(of["student"].values()) for of in distances]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0"], "'0' is not a whole number from 1"),
        (["--output", "no/report.md"], "no/report.md cannot be written"),
        (["--training", "--ultra"], "choose one"),
        (["--training", "--stages", "6"], "'6' is not a whole number from 1 to 5"),
        (["--training", "--crop", "40"], "--crop must be a multiple of 16"),
        (["--ultra", "--memory", "1XB"], "'1XB' is no size"),
        (["--ultra", "--megapixels", "nan"], "'nan' is not a number"),
        (["--sizes", "2"], "'2' is not a whole number from 32"),
        (["--weights", "lone"], "must have decoders"),
        (["--weights", "none"], "none: no such"),
        (["--gatys", "--dtype", "bfloat16"], "float32 only"),
        (["--gatys", "--steps", "3", "--finish-steps", "4"], "finish_steps must be from 0 to 3"),
        (["--gatys", "--contents", "none.png"], "none.png: no such file"),
    ],
)
def test_bad_input_is_one_line(
    work: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model("lone", encoder((2, 3, 3, 4, 3), seed=4))
    if "--weights" not in arguments:
        arguments = [*arguments, "--weights", "small"]
    try:
        status: Any = benchmark.main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("PyTorch is missing")]
    assert len(lines) == 1
    assert message in lines[0]


def test_a_process_that_fails_is_one_line(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(name: str, task: Mapping[str, Any], *, cache: Path, allocator: str) -> Any:
        return worker(name, {"load": "none:nothing"}, cache=cache)

    monkeypatch.setattr(tiles, "worker", dies)
    options = ["--ultra", "--weights", "small", "--megapixels", "0.02", "--json", "out.json"]
    assert benchmark.main(options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("benchmark: the windows process ended with 1: ModuleNotFoundError: ")
    assert err.count("\n") == 1
    assert not Path("out.json").exists()


def test_pytorch_is_measured_in_processes_without_jax() -> None:
    for name in ("worker", "torch_networks"):
        tree = ast.parse((ROOT / "experiments" / "benchmarks" / f"{name}.py").read_text())
        imported = {
            node.module if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not {str(module).split(".")[0] for module in imported} & {"jax", "flax", "cdjax"}
        own = {module for module in imported if str(module).startswith("experiments")}
        assert own <= {"experiments.benchmarks.worker"}
