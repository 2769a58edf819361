"""AdaIN distilled: all phases in their order, going on after a stop, and the quick command."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cdjax import Model, load_model, stylize
from cdjax.cli.distill_report import read_log
from cdjax.cli.main import main
from cdjax.data.dead_leaves import dead_leaves
from cdjax.distillation.config import DistillationConfig, PhaseConfig, Styles, Weights
from cdjax.distillation.pipeline import distill
from cdjax.distillation.presets import PRESETS
from cdjax.distillation.train_step import loss
from cdjax.errors import DataError
from cdjax.evaluation.image_quality import stylization_quality
from cdjax.networks.teachers import teacher_encoder
from tests.distillation.test_pipeline import SMALL, TEACHER, Notes, leaves, vgg
from tests.models import random_image

STAGE = 2
ROOT = Path(__file__).parents[2]
PHASES = ("teacher_decoder", "student_encoder", "student_decoder")
PLAIN = PhaseConfig(4, Weights(embedding=10, content=1, style=10), learning_rate=1e-3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return vgg(tmp_path_factory.mktemp("teacher") / "vgg")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher: str) -> tuple[Path, Notes, Model]:
    folder, notes = tmp_path_factory.mktemp("whole") / "run", Notes()
    return folder, notes, distill(papers(teacher), folder, notes)


def papers(teacher: str) -> DistillationConfig:
    """The three phases of the paper, small."""
    phases = dict.fromkeys(PHASES, PLAIN)
    return replace(
        SMALL,
        teacher=teacher,
        method="adain",
        stages=(2,),
        start=replace(SMALL.start, method="random"),  # Least squares take longer than the rest.
        student_autoencoder=PhaseConfig(),
        **phases,
    )


def test_the_papers_phases_make_a_model_that_stylises(whole: tuple[Path, Notes, Model]) -> None:
    _, notes, model = whole
    steps = [(2, phase, step) for phase in PHASES for step in range(1, PLAIN.steps + 1)]
    assert notes.steps == steps
    assert (model.config.method, [s.stage for s in model.config.specs]) == ("adain", [2])
    content, style = random_image(40, 48), random_image(32, 36, seed=2)
    result = np.asarray(stylize(model, content, style))
    assert result.shape == (40, 48, 3)
    assert result.std() > 0.01


def test_pictures_are_contents_styles_and_what_each_network_makes(
    whole: tuple[Path, Notes, Model],
) -> None:
    shown = {phase: columns for phase, _, columns in whole[1].shown}
    assert list(shown["teacher_decoder"]) == ["content", "style", "teacher"]
    for phase in PHASES[1:]:
        assert list(shown[phase]) == ["content", "style", "teacher", "student"]
        assert {images.shape for images in shown[phase].values()} == {(4, 32, 32, 3)}
        assert shown[phase]["student"].std() > 1
    # The same pairs, and the same teacher, in both.
    for column in ("content", "style", "teacher"):
        np.testing.assert_array_equal(*(shown[phase][column] for phase in PHASES[1:]))


def test_the_teachers_decoder_is_a_model_too_and_serves_as_teacher(
    whole: tuple[Path, Notes, Model], tmp_path: Path
) -> None:
    folder, _, _ = whole
    made = folder / "stage2" / "teacher_decoder" / "model"
    model = load_model(made)
    assert model.config.method == "adain"
    assert model.config.specs == (TEACHER,)
    assert np.isfinite(stylize(model, random_image(16, 16), random_image(16, 16, seed=2))).all()
    notes = Notes()
    distill(replace(papers(str(made)), student_decoder=PhaseConfig()), tmp_path / "run", notes)
    assert {phase for _, phase, _ in notes.steps} == {"student_encoder"}


def test_the_teachers_decoder_starts_from_least_squares(teacher: str, tmp_path: Path) -> None:
    start, one = replace(SMALL.start, images=12, decoder_images=12, positions=3000), PhaseConfig(1)
    recipe = replace(
        papers(teacher), stages=(1,), start=start, teacher_decoder=one,
        student_encoder=PhaseConfig(), student_decoder=PhaseConfig(),
    )  # fmt: skip
    distill(recipe, tmp_path, Notes())
    begun = load_model(tmp_path / "stage1" / "teacher_decoder_start")
    image = dead_leaves(7, 0, size=48)
    # AdaIN with an image's own statistics is its reconstruction.
    error = np.asarray(stylize(begun, image, image)) - image / 255
    assert np.square(error).mean() < 0.1 * image.std() ** 2 / 255**2


def test_steps_of_the_teachers_decoder_are_made_though_nothing_needs_it() -> None:
    recipe = PRESETS["adain"]["bundled"]
    assert not recipe.needs_teacher_decoder
    assert replace(recipe, teacher_decoder=PhaseConfig(5)).needs_teacher_decoder


def test_a_stopped_run_goes_on_to_the_same_model(
    whole: tuple[Path, Notes, Model], teacher: str, tmp_path: Path
) -> None:
    notes = Notes(fail_at=7)
    with pytest.raises(KeyboardInterrupt):
        distill(papers(teacher), tmp_path, notes)
    assert notes.steps[-1] == (2, "student_encoder", 3)
    notes = Notes()
    model = distill(papers(teacher), tmp_path, notes)
    assert notes.steps[0] == (2, "student_encoder", 3)
    for left, right in zip(leaves(model), leaves(whole[2]), strict=True):
        np.testing.assert_array_equal(left, right)


def test_styles_that_cannot_be_had_are_named_before_anything_is_made(
    teacher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(papers(teacher), styles=Styles(str(tmp_path / "none")))
    with pytest.raises(DataError, match="none: no such folder"):
        distill(recipe, tmp_path / "run", Notes())
    assert not (tmp_path / "run").exists()
    options = ["--method", "adain", "--output", str(tmp_path / "out")]
    assert main(["distill", *options, "--styles.source", "tfds:none"]) == 2
    assert "tfds:none: not prepared in" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, teacher: str) -> tuple[Path, str]:
    """The default run of AdaIN but, to save time, of a small teacher, few steps and small crops."""
    output = tmp_path_factory.mktemp("quick") / "run"
    command = [sys.executable, "-m", "cdjax", "distill", "--method", "adain", "--teacher", teacher]
    command += ["--output", str(output), "--stages", str(STAGE), "--data.crop", "32"]
    command += ["--student-autoencoder.learning-rate", "0.003", "--student-autoencoder.steps", "40"]
    command += ["--pictures-every", "40", "--save-every", "40", "--start.crop", "32"]
    command += ["--start.images", "16", "--start.decoder-images", "16"]
    command += ["--start.positions", "2000", "--start.iterations", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return output, done.stderr


def test_the_quick_run_says_what_it_took_and_how_to_get_the_real_thing(
    quick: tuple[Path, str],
) -> None:
    output, said = quick
    assert "data dead-leaves, styles dead-leaves" in said
    assert "--method adain --preset bundled --data.source" in said
    assert "--styles.source FOLDER_OF_PAINTINGS" in said
    assert f"cdjax stylize CONTENT STYLE --weights {output / 'model'}" in said


def test_the_quick_run_lowers_its_loss_and_its_result_stylises(quick: tuple[Path, str]) -> None:
    folder = quick[0] / f"stage{STAGE}"
    spec, encoder = teacher_encoder(load_model(quick[0] / "teacher"), STAGE)
    contents, styles = (
        np.stack([dead_leaves(seed, index, size=64) for index in range(4)]) for seed in (98, 99)
    )
    model = load_model(quick[0] / "model")
    work = PRESETS["adain"]["quick"].task("student_autoencoder", model.config.specs, spec)
    compute = jax.jit(partial(loss, task=work))
    before, after = (
        float(
            compute(
                load_model(path).params[f"stage{STAGE}"],
                {"teacher": encoder},
                np.stack([contents, styles], axis=1),
            )[0]
        )
        for path in (folder / "decoder_start", folder / "student_autoencoder" / "model")
    )
    assert after < 0.97 * before
    assert len(read_log(folder / "student_autoencoder" / "log.jsonl")) == 40
    stylised, unchanged = (
        stylization_quality(which, (spec, encoder), contents, styles) for which in (model, None)
    )
    assert stylised.style_loss < 0.8 * unchanged.style_loss


def test_the_quick_run_leaves_a_report_with_curves_and_pictures(quick: tuple[Path, str]) -> None:
    output = quick[0]
    report = (output / "report.md").read_text()
    assert report.startswith("# Distillation for adain")
    assert "data dead-leaves, styles dead-leaves" in report
    links = re.findall(r"\]\((.*?)\)", report)
    assert len(links) == 2
    for link in links:
        with Image.open(output / link) as image:
            image.verify()
    header, _, row = [line for line in report.splitlines() if line.startswith("|")][:3]
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert {name for name, cell in cells.items() if "->" in cell} == {
        "loss",
        "embedding",
        "content",
        "style",
    }
    assert json.loads((output / "recipe.json").read_text())["method"] == "adain"
