"""`python -m experiments.benchmark --ultra`, small: its numbers, its plot and what it refuses."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Spec, save_model
from experiments import benchmark, ultra_benchmark
from experiments.measure import WorkerError
from experiments.measure_ultra import grey_levels
from experiments.ultra_benchmark import Taken, differences, shape_of, write_content
from tests.experiments.test_benchmark import tables

SPECS = (Spec(2, (6, 8)), Spec(1, (5,)))
TORCH = importlib.util.find_spec("torch") is not None


def run(folder: Path, *options: str) -> int:
    save_model(folder / "model", benchmark.random_model(SPECS))
    shared = ["--ultra", "--runs", "1", "--weights", str(folder / "model")]
    return benchmark.main([*shared, *options])


def test_report_json_and_plot_of_a_small_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.md"
    options = ["--megapixels", "0.02", "0.05", "--memory", "1MB", "--output", str(output)]
    assert run(tmp_path, *options) == 0
    streams = capsys.readouterr()
    assert streams.out == output.read_text()
    assert streams.err.count("\n") == 6  # A line a measurement.
    assert f"![time and memory]({output.stem}.png)" in streams.out
    picture = (tmp_path / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000

    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["memory"], found["host_memory"]) == (10**6, 4 * 10**9)
    assert [size["shape"] for size in found["sizes"]] == [[144, 144], [224, 224]]
    speed, memory, apart = list(tables(streams.out).values())[:3]
    assert len(speed) == len(memory) == len(apart) == 3
    for i, size in enumerate(found["sizes"], 1):
        seconds, peaks = speed[i], memory[i]
        assert seconds[0] == peaks[0] == apart[i][0]
        assert size["warm"]
        assert seconds[-2] == "after a warm-up"
        check_ways(size, seconds, peaks)
        assert apart[i][1] == "0 (0.0000)"  # Windows make what the whole image makes.
        assert ("torch" in size["apart"]) == TORCH
        assert not TORCH or size["apart"]["torch"][0] <= 1


def check_ways(size: dict[str, Any], seconds: list[str], peaks: list[str]) -> None:
    """That the table has the numbers of the JSON, and quotients of them."""
    taken, millions = size["taken"], np.prod(size["shape"]) / 1e6
    for column, way in enumerate(("windows", "whole", "torch"), 1):
        if way == "torch" and not TORCH:
            assert seconds[column] == peaks[column] == taken[way] == "PyTorch is missing"
            continue
        (measured,) = taken[way]["seconds"]
        assert 0 < measured < 20
        assert float(seconds[column]) == pytest.approx(measured, rel=0.01)
        assert float(seconds[column + 3]) == pytest.approx(measured / millions, rel=0.01)
        assert float(peaks[column]) == pytest.approx(taken[way]["peak"] / 2**20, abs=1)
    pairs = [("windows", "whole"), ("torch", "windows")]
    for column, (above, below) in enumerate(pairs):
        if "torch" in (above, below) and not TORCH:
            assert seconds[7 + column] == peaks[4 + column] == "-"
            continue
        quotient = taken[above]["seconds"][0] / taken[below]["seconds"][0]
        assert float(seconds[7 + column]) == pytest.approx(quotient, rel=0.01, abs=0.01)
        quotient = taken[above]["peak"] / taken[below]["peak"]
        assert float(peaks[4 + column]) == pytest.approx(quotient, rel=0.01, abs=0.01)


def test_what_does_not_fit_or_is_missing_is_said_and_large_sizes_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ultra_benchmark, "WARM_UP_TO", 0.01)
    monkeypatch.setattr(ultra_benchmark, "room", lambda _: 600 * 144**2 - 1)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(tmp_path, "--megapixels", "0.02", "--memory", "1MB") == 0
    found = tables(capsys.readouterr().out)
    row = found["Speed"][1]
    assert row[2:4] == row[5:7] == ["does not fit", "PyTorch is missing"]
    assert row[7:9] == ["-", "-"]
    assert row[9] == "first run"
    # There was no warm-up, so that compilation is within the seconds.
    assert 0.1 < float(row[10].split(";")[0]) < float(row[1])
    assert found["Peak resident memory, MiB"][1][2] == "does not fit"
    assert next(iter(found.values())) is found["Speed"]


def test_a_whole_image_that_fails_does_not_lose_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"device": "gpu", "platform": "gpu", "version": "1", "limit": 10**12}

    def measure(way: str, folder: Path, **_: Any) -> tuple[Taken, dict[str, Any]]:
        if way != "windows":
            raise WorkerError(f"the {way} worker ended with -9 (out of memory?)")
        return Taken((2.0,), 0.5, 2**30, 2**29), about

    monkeypatch.setattr(ultra_benchmark, "_measure", measure)
    monkeypatch.setattr(ultra_benchmark, "room", lambda limit: limit)
    monkeypatch.setitem(sys.modules, "torch", None)
    output = tmp_path / "report.md"
    assert run(tmp_path, "--megapixels", "0.02", "--output", str(output)) == 0
    found = tables(capsys.readouterr().out)
    assert found["Speed"][1][1:3] == ["2", "failed"]
    assert found["Peak device memory, MiB"][1][1:3] == ["512", "failed"]
    assert "whole image: failed: the whole worker ended with -9" in output.read_text()
    (size,) = json.loads((tmp_path / "report.json").read_text())["sizes"]
    assert size["taken"]["windows"]["device_peak"] == 2**29


def test_wrong_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ultra_benchmark, "write_content", lambda *_: pytest.fail("too late"))
    for options, message in (
        (["--memory", "1XB"], "--memory: '1XB' is no size"),
        (["--host-memory", "0"], "--host-memory: '0' is no memory"),
        (["--megapixels", "1", "0"], "--megapixels must be positive"),
        (["--megapixels", "nan"], "--megapixels must be positive"),
        (["--training"], "choose one"),
        (["--output", str(tmp_path / "report.json")], "--output is the report"),
    ):
        assert benchmark.main(["--ultra", *options]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err.startswith("benchmark: ")
        assert message in streams.err
        assert streams.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_too_little_memory_for_any_window_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--megapixels", "0.02", "--memory", "1kB") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_shapes() -> None:
    assert [shape_of(megapixels) for megapixels in (1, 4, 16, 40, 100)] == [
        *((side, side) for side in (1024, 2048, 4096)),
        (4096, 10240),
        (10240, 10240),
    ]
    assert shape_of(1e-6) == (32, 32)
    for megapixels in (0.3, 7, 60.5):
        height, width = shape_of(megapixels)
        assert height % 16 == width % 16 == 0
        assert height * width == pytest.approx(megapixels * 2**20, rel=0.1)


def test_content_is_like_a_photograph(tmp_path: Path) -> None:
    path = tmp_path / "content.npy"
    write_content(path, (600, 336))  # Three bands, the last one shorter.
    image = np.load(path)
    assert image.shape == (600, 336, 3)
    assert image.dtype == np.uint8
    values = image.astype(float)
    assert 20 < values.std() < 80
    # Neighbouring pixels resemble each other and are not equal, across bands too.
    steps = np.abs(np.diff(values, axis=0)).mean((1, 2))
    assert steps.min() > 1
    assert steps.max() < 0.6 * values.std()
    grey = values.mean(-1, keepdims=True)
    assert 3 < (values - grey).std() < grey.std()


def test_differences_of_results(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    result = generator.random((300, 40, 3), np.float32)
    levels = np.rint(result * 255).astype(np.uint8)
    grey_levels(result, tmp_path / "float.npy")
    levels[290, 3, 1] ^= 1
    grey_levels(levels, tmp_path / "levels.npy")
    largest, mean = differences(tmp_path / "float.npy", tmp_path / "levels.npy")
    assert largest == 1
    assert mean == pytest.approx(1 / levels.size)
