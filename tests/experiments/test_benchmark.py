"""The benchmark from its arguments to its report, small; and what it counts and refuses."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from cdjax import Model, ModelConfig, Spec, save_model, student
from cdjax.model import Method
from experiments import benchmark
from experiments.measure import ROOT, WorkerError, photograph, time_process, worker

pytestmark = pytest.mark.usefixtures("quick_compiler")

SPECS = (Spec(2, (6, 8)), Spec(1, (5,)))


def tables(text: str) -> dict[str, list[list[str]]]:
    """Cells of the report's tables by heading, header row first, without the ruler."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            rows = found.setdefault(line[3:], [])
        elif line.startswith("|") and not line.startswith("| ---"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def roots(tree: ast.AST) -> set[str]:
    """Top-level packages that a piece of source imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(("method", "specs"), [("wct", SPECS), ("adain", SPECS[:1])])
def test_report_of_a_small_run(
    method: Method,
    specs: tuple[Spec, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch", reason="the baseline of the benchmark is PyTorch")
    monkeypatch.setattr(benchmark, "_PAUSE", 0)
    save_model(tmp_path / "model", benchmark.random_model(specs, method=method))
    output = tmp_path / "report.md"
    options = ["--sizes", "64", "--runs", "1", "--cold-size", "64", "--output", str(output)]
    assert benchmark.main([*options, "--weights", str(tmp_path / "model")]) == 0
    text = output.read_text()
    assert capsys.readouterr().out == text
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.md"]
    assert text.startswith(f"# {'AdaIN' if method == 'adain' else 'WCT cascade'}: ")
    assert f"--sizes 64 --runs 1 --cold-size 64 --output {output}" in text
    found = tables(text)
    assert list(found) == ["Speed", "Peak resident memory, MiB", "Cold start, 64 pixels"]

    header, row = found["Speed"]
    speed = dict(zip(header, row, strict=True))
    ours, theirs = (float(speed[name].split()[0]) for name in ("cdjax, s", "PyTorch, s"))
    assert speed["pixels"] == "64"
    assert 0 < ours < 10
    assert float(speed["times faster"]) == pytest.approx(theirs / ours, rel=0.02, abs=0.01)
    assert speed["compilations"] == "0"
    reached = benchmark.cascade_flops(specs, 64) / ours / 1e9
    assert float(speed["GFLOP/s"]) == pytest.approx(reached, rel=0.02, abs=0.1)
    assert float(speed["of matrix products"]) > 1
    # The two implementations compute the same picture.
    assert float(speed["largest (mean) difference"].split()[0]) < 0.5

    header, row = found["Peak resident memory, MiB"]
    assert len(header) == len(row)
    peak, other, _, above, other_above, _, misses = map(float, row[1:])
    assert peak > above > 0
    assert other > other_above > 0
    assert misses == 0

    cold = dict(found["Cold start, 64 pixels"][1:])
    times = [float(cold[name].split()[0]) for name in ("cdjax stylize", "plain PyTorch")]
    assert float(cold["times faster"]) == pytest.approx(times[1] / times[0], rel=0.02)
    assert float(cold["largest (mean) difference"].split()[0]) <= 1


def test_plain_version_imports_no_jax() -> None:
    for name in ("__init__", "plain_torch"):
        tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text())
        assert not roots(tree) & {"jax", "flax", "cdjax", "experiments"}, name
    # The process that runs it imports the rest only where the other implementation is asked for.
    tree = ast.parse((ROOT / "experiments" / "measure.py").read_text())
    top = ast.Module(
        [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []
    )
    assert roots(top) <= {*sys.stdlib_module_names, "numpy"}


def test_flops_equal_a_count_by_hand() -> None:
    # Stage 1: 9 * 3 * 24 products a pixel; two encoders and a decoder; each with an addition.
    assert benchmark.cascade_flops([student(1)], 10) == 100 * 3 * 2 * 9 * 3 * 24
    # Stage 2 of widths 4, 6: two convolutions at full size, the third at a quarter of the pixels.
    second = 9 * (3 * 4 + 4 * 4 + 4 * 6 / 4)
    expected = 64**2 * 6 * (second + 9 * 3 * 5)
    assert benchmark.cascade_flops([Spec(2, (4, 6)), Spec(1, (5,))], 64) == expected


def test_photographs_are_the_same_always_and_have_a_photographs_spectrum() -> None:
    image = photograph(256, seed=0)
    assert image.shape == (256, 256, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, photograph(256, seed=0))
    assert (image != photograph(256, seed=1)).mean() > 0.9
    values = image.astype(float)
    assert 20 < values.std() < 80
    # Neighbouring pixels resemble each other and are not equal.
    steps = np.abs(np.diff(values, axis=0))
    assert 1 < steps.mean() < 0.6 * values.std()  # White noise: 1.13.


def test_random_weights_of_the_student_neither_die_nor_overflow() -> None:
    model = benchmark.random_model((student(5),))
    params = model.params["stage5"]["encoder"]
    features = photograph(64, seed=0)[None] / 255
    for conv in model.config.specs[0].encoder:
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        features = np.einsum("nhwcij,ijco->nhwo", windows, params[conv.name]["kernel"])
        features = np.maximum(features + params[conv.name]["bias"], 0)
        assert features.std((0, 1, 2)).min() > 1e-3, conv.name
        assert features.max() < 10, conv.name
        if conv.pooled:
            features = features[:, ::2, ::2]


def test_missing_torch_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert benchmark.main([]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert re.fullmatch(r"benchmark: .*pip install 'cdjax\[bench\]'\n", streams.err)


@pytest.mark.parametrize(
    ("specs", "method", "size", "message"),
    [
        (SPECS, "wct", "65", "multiple of 2, at least 4, not 65"),
        (SPECS, "wct", "2", "multiple of 2, at least 4, not 2"),
        (SPECS, "encoder", "64", "models with decoders and reflection padding"),
        (
            (Spec(1, (5,), padding="zero"),),
            "wct",
            "64",
            "models with decoders and reflection padding",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    specs: tuple[Spec, ...],
    method: str,
    size: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)  # Runs without PyTorch too.
    model = benchmark.random_model(specs)
    if method == "encoder":
        networks = {"stage2": {"encoder": model.params["stage2"]["encoder"]}}
        model = Model(networks, ModelConfig("encoder", specs[:1], "random"))
    save_model(tmp_path / "model", model)
    arguments = ["--sizes", size, "--weights", str(tmp_path / "model")]
    output = tmp_path / "report.md"
    assert benchmark.main([*arguments, "--output", str(output)]) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.err.count("\n") == 1
    assert not output.exists()


def test_wrong_arguments_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--runs", "0"], "--runs must be at least 1"),
        (["--output", str(tmp_path / "no" / "report.md")], "there is no directory"),
    ):
        with pytest.raises(SystemExit, match="2"):
            benchmark.main(arguments)
        assert message in capsys.readouterr().err


def test_failing_processes_are_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(WorkerError, match=r"the cdjax worker ended with 1: .*no such file"),
        worker("cdjax", tmp_path, dtype="float32"),
    ):
        pass
    with pytest.raises(WorkerError, match=r"the cold process ended with 1: KeyError: 3$"):
        time_process(["-c", "{}[3]"], "cold", folder=tmp_path)
