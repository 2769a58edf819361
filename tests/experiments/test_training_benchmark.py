"""`python -m experiments.benchmark --training`, small: its counts, and that both train alike."""

import ast
from pathlib import Path

import jax
import numpy as np
import pytest

from cdjax import Spec, student
from cdjax.networks.spec import teacher
from experiments import benchmark, training_benchmark
from experiments.measure import ROOT
from experiments.training_benchmark import step_flops
from experiments.training_networks import from_torch_layout, to_torch_layout, training_networks
from tests.experiments.test_benchmark import roots, tables

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL, BIG = Spec(2, (3, 4)), Spec(2, (6, 8))


def test_report_of_a_small_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="the baseline of the benchmark is PyTorch")
    monkeypatch.setattr(training_benchmark, "_PAUSE", 0)
    output = tmp_path / "report.md"
    options = ["--training", "--stages", "2", "--runs", "3", "--batch", "2", "--crop", "32"]
    assert benchmark.main([*options, "--output", str(output)]) == 0
    assert capsys.readouterr().out == output.read_text()
    header, row = tables("## Steps\n" + output.read_text())["Steps"]
    cells = dict(zip(header, row, strict=True))
    ours, theirs = (float(cells[name].split()[0]) for name in ("cdjax, s", "PyTorch, s"))
    assert float(cells["times faster"]) == pytest.approx(theirs / ours, rel=0.02, abs=0.01)
    assert float(cells["images/s"]) == pytest.approx(2 / ours, rel=0.02, abs=0.1)
    reached = step_flops(student(2), teacher(2), 2 * 32**2) / ours / 1e9
    assert float(cells["GFLOP/s"]) == pytest.approx(reached, rel=0.02, abs=1)
    # Five steps from the same weights on the same images: the same losses.
    assert float(cells["largest difference of the losses"]) < 1e-4


def test_both_layouts_hold_the_same() -> None:
    networks = training_networks(SMALL, BIG)
    arrays = to_torch_layout(networks)
    assert arrays["student/conv1_2/weight"].shape == (3, 3, 3, 3)
    assert arrays["embedding/relu2_1/weight"].shape == (8, 4, 1, 1)
    assert [name for name in arrays if name.startswith("decoder") and name.endswith("bias")] == [
        f"decoder/{conv.name}/bias" for conv in BIG.decoder
    ]
    kernel = networks["student"]["conv2_1"]["kernel"]
    np.testing.assert_array_equal(arrays["student/conv2_1/weight"][3, 1], kernel[:, :, 1, 3])
    jax.tree.map(np.testing.assert_array_equal, from_torch_layout(arrays), networks)


def test_flops_equal_a_count_by_hand() -> None:
    # conv1_1, conv1_2 at full size, conv2_1 at a quarter of the pixels; two a product.
    big = 2 * 9 * (3 * 6 + 6 * 6 + 6 * 8 / 4)
    small = 2 * 9 * (3 * 3 + 3 * 3 + 3 * 4 / 4)
    assert step_flops(SMALL, BIG, 100) == pytest.approx(100 * (5 * big + 3 * small))


def test_plain_version_imports_no_jax() -> None:
    tree = ast.parse((ROOT / "experiments" / "plain_torch_training.py").read_text())
    assert not roots(tree) & {"jax", "flax", "cdjax"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages", "6"], "--stages must be from 1 to 5"),
        (["--crop", "40"], "--crop a multiple of 16"),
        (["--batch", "0"], "--batch must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["--training", *arguments])
    assert message in capsys.readouterr().err
