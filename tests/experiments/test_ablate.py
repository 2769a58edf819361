"""`python -m experiments.ablate`: variants of one recipe under one budget."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdjax.checkpoints.load import load_model
from cdjax.data.pairs import Pairs
from cdjax.distillation.config import PhaseConfig, Weights
from experiments.ablate import main, measured_images, variants
from experiments.ablate_options import default_recipe
from tests.distillation.test_pipeline import vgg
from tests.experiments.fakes import tables

NAMES = ["everything", "no_embedding", "no_collaboration", "start_l1", "start_random"]
TINY = {
    "--data.crop": "32",
    "--data.batch": "2",
    "--stages": "1",
    "--start.images": "8",
    "--start.crop": "32",
    "--start.decoder-images": "8",
    "--start.positions": "500",
    "--start.iterations": "2",
    "--teacher-decoder.steps": "3",
    "--student-encoder.steps": "3",
    "--student-decoder.steps": "3",
    "--count": "6",
    "--size": "32",
}


def test_each_variant_leaves_out_one_part() -> None:
    recipe = default_recipe()
    found = variants(recipe)
    assert list(found) == NAMES
    assert found["everything"] == recipe
    assert recipe.student_encoder.weights == Weights(10, 1, 1)
    weights = {name: found[name].student_encoder.weights for name in NAMES}
    assert weights["no_embedding"] == Weights(0, 1, 1)
    assert weights["no_collaboration"] == Weights(10, 0, 0)
    assert weights["start_l1"] == weights["start_random"] == weights["everything"]
    assert [found[name].start.method for name in NAMES[3:]] == ["l1", "random"]
    budgets = {(r.student_encoder.steps, r.student_decoder.steps) for r in found.values()}
    assert len(budgets) == 1


def test_student_transfer_is_a_variant_where_the_recipe_has_it() -> None:
    recipe = replace(default_recipe(), student_transfer=PhaseConfig(5))
    found = {name: of.student_transfer.steps for name, of in variants(recipe).items()}
    assert found == {**dict.fromkeys(NAMES, 0), "with_transfer": 5}


def test_adain_collaborates_by_transfer() -> None:
    recipe = replace(default_recipe(), method="adain")
    found = {name: of.student_encoder.weights for name, of in variants(recipe).items()}
    weights = found["no_collaboration"]
    assert (weights.embedding, weights.content, weights.style) == (10, 0, 0)
    assert (found["everything"].content, found["everything"].style) == (1, 10)


def test_images_to_measure_on_are_none_that_were_trained_on() -> None:
    recipe = replace(default_recipe(), method="adain")
    _, test, pairs = measured_images(recipe, None, count=6, size=recipe.data.crop)
    assert pairs["contents"].shape == pairs["styles"].shape == test.shape
    with Pairs(recipe.data, recipe.style_data) as data:
        trained = np.concatenate([next(data).reshape(-1, *test.shape[1:]) for _ in range(2)])
    for image in (*pairs["contents"], *pairs["styles"]):
        assert np.abs(trained.astype(int) - image).mean((1, 2, 3)).min() > 1


def test_variants_are_made_and_measured_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = vgg(tmp_path / "vgg")
    output = tmp_path / "ablation"
    options = [part for option in TINY.items() for part in option]
    command = ["--teacher", teacher, "--output", str(output), *options]
    assert main(command) == 0
    text = capsys.readouterr().out
    figures = json.loads((output / "ablation.json").read_text())
    assert list(figures["models"]) == NAMES
    head, row, *_ = tables(text)["Share of the teacher's variance that is not explained"]
    assert head[1:] == NAMES
    for shown, name in zip(row[1:], NAMES, strict=True):
        shares = figures["models"][name]["unexplained"]
        wanted = [f"{shares[form]['1']['relu1_1']:.3f}" for form in ("affine", "relu")]
        assert shown == " / ".join(wanted)
    # One decoder of the teacher serves all that need it.
    made = [name for name in NAMES if (output / name / "stage1/teacher_decoder/log.jsonl").exists()]
    copied = [name for name in NAMES if (output / name / "stage1/teacher_decoder/model").exists()]
    assert copied == NAMES
    logs = {(output / name / "stage1/teacher_decoder/log.jsonl").read_text() for name in made}
    assert len(logs) == 1
    models = [load_model(output / name / "model").params["stage1"] for name in NAMES]
    results = {np.asarray(model["encoder"]["conv1_1"]["bias"]).tobytes() for model in models}
    assert len(results) == len(NAMES)


def test_bad_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stages", "2", "1", "--output", str(tmp_path / "a")]) == 2
    assert "ablate takes one stage" in capsys.readouterr().err
    assert main(["--images", str(tmp_path / "none"), "--output", str(tmp_path / "a")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
