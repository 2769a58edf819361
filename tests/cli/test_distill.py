"""`cdjax distill`, as a person runs it."""

import fcntl
import json
import os
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from cdjax import encode_style, load_model, stylize
from cdjax.cli import training_log
from cdjax.cli.distill_options import parse
from cdjax.cli.distill_report import read_log
from cdjax.cli.main import main
from cdjax.cli.training_log import Watch, picture_grid
from cdjax.data.dead_leaves import dead_leaves
from cdjax.distillation.config import PhaseConfig, TrainTask
from cdjax.distillation.presets import PRESETS
from cdjax.distillation.train_step import loss
from cdjax.networks.spec import student
from cdjax.networks.teachers import teacher_encoder
from cdjax.progress import Progress
from tests import models

ROOT = Path(__file__).parents[2]


STAGES = (1,)
STEPS = 20


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The default run but, to save time, of one of its stages, fewer steps and crops."""
    output = tmp_path_factory.mktemp("quick") / "run"
    command = [sys.executable, "-m", "cdjax", "distill", "--output", str(output)]
    command += ["--stages", *map(str, STAGES), "--data.crop", "48", "--data.batch", "2"]
    command += ["--start.images", "12", "--start.decoder-images", "8", "--start.crop", "48"]
    command += ["--start.positions", "1000", "--start.iterations", "2"]
    command += ["--student-autoencoder.steps", str(STEPS), "--student-decoder.steps", str(STEPS)]
    command += ["--pictures-every", str(STEPS), "--save-every", str(STEPS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return output, done.stderr


def test_it_says_what_it_took_and_how_to_get_the_real_thing(quick: tuple[Path, str]) -> None:
    output, said = quick
    assert "teacher vgg16, data dead-leaves" in said
    assert "--preset paper" in said
    assert "--preset bundled --data.source" in said
    assert f"cdjax stylize CONTENT STYLE --weights {output / 'model'}" in said


@pytest.mark.parametrize("stage", STAGES)
def test_every_phase_lowers_its_loss(quick: tuple[Path, str], stage: int) -> None:
    folder, recipe = quick[0] / f"stage{stage}", PRESETS["wct"]["quick"]
    spec, teacher = teacher_encoder(load_model(quick[0] / "teacher"), stage)
    images = np.stack([dead_leaves(99, index, size=64) for index in range(8)])
    before = folder / "decoder_start"
    for phase in ("student_autoencoder", "student_decoder"):
        after = folder / phase / "model"
        small = student(stage, depths=spec.depths)
        task = recipe.task(phase, [small], spec)
        losses = []
        for path in (before, after):
            networks = load_model(path).params[f"stage{stage}"]
            frozen = {"teacher": teacher, "encoder": networks["encoder"]}
            losses.append(float(jax.jit(partial(loss, task=task))(networks, frozen, images)[0]))
        assert losses[1] < losses[0], phase
        assert len(read_log(folder / phase / "log.jsonl")) == STEPS
        before = after


def test_the_result_stylises(quick: tuple[Path, str]) -> None:
    model = load_model(quick[0] / "model")
    assert [spec.stage for spec in model.config.specs] == list(STAGES)
    content, style = (
        (models.random_image(1, 96, 96, seed=seed) / 255).astype(np.float32) for seed in (1, 2)
    )
    result = np.asarray(stylize(model, content, encode_style(model, style)))
    assert result.shape == content.shape
    assert np.isfinite(result).all()
    # The colours of the style, which whitening and colouring brings along.
    np.testing.assert_allclose(result.mean((1, 2)), style.mean((1, 2)), atol=0.1)


def test_it_leaves_pictures_logs_and_a_report(quick: tuple[Path, str]) -> None:
    output = quick[0]
    report = (output / "report.md").read_text()
    links = re.findall(r"\]\((.*?)\)", report)
    assert len(links) == 4 * len(STAGES)
    for link in links:
        with Image.open(output / link) as image:
            image.verify()
    assert json.loads((output / "recipe.json").read_text())["teacher"] == "vgg16"
    assert list(
        (output / f"stage{STAGES[0]}" / "student_autoencoder" / "tensorboard").glob("events.*")
    )


def test_bad_use_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "run")]
    assert main(["distill", "--teacher", str(tmp_path / "none.pth"), *output]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("cdjax: error: ")
    assert "none.pth: no such file" in line
    assert main(["distill", "--data.source", str(tmp_path / "none"), *output]) == 2
    assert "no such folder" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(["distill", "--stages", "7", *output]) == 2
    assert "stages must be different numbers from 1 to 5" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # Nothing stays of a run that could not begin.
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--preset", "none"], "invalid choice: 'none'"),
        (["--no-such-option"], "Unrecognized options: --no-such-option"),
        (["extra"], "Unrecognized options: extra"),
        (["--data.batch", "x"], "--data.batch: invalid literal for int() with base 10: 'x'"),
        (["--data.batch", "0"], "data: batch must be at least 1, not 0"),
        (["--student-decoder.decay", "maybe"], "Expected one of ('True', 'False')"),
        (["--hosts.index", "x"], "--hosts.index: "),
        (["--output"], "Missing value for argument '--output'"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cdjax: error: ")
    assert said.endswith(" (see cdjax distill --help)\n")
    assert said.count("\n") == 1
    assert reason in said


def test_a_run_that_cannot_begin_changes_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    recipe = tmp_path / "begun" / "recipe.json"
    recipe.write_text('{"teacher": "vgg16", "stages": [1]}')
    for output in ("new", "new/deep", "empty", "begun"):
        for wrong in ("--teacher", "--start.model"):
            assert main(["distill", wrong, "nonsense", "--output", str(tmp_path / output)]) == 2
            assert "nonsense: no such file or folder" in capsys.readouterr().err
    # Found only after the teacher's file was read.
    assert main(["distill", "--start.model", "adain-16x", "--output", str(tmp_path / "new")]) == 2
    assert "adain-16x has no stage" in capsys.readouterr().err
    assert recipe.read_text() == '{"teacher": "vgg16", "stages": [1]}'
    assert set(tmp_path.rglob("*")) == {tmp_path / "empty", tmp_path / "begun", recipe}


def test_a_folder_of_others_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.md").write_text("mine")
    (tmp_path / "recipe.json").write_text('{"flour": 3}')
    assert main(["distill", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"output {tmp_path}: has files, but not of a distillation" in said
    assert main(["distill", "--output", str(tmp_path / "report.md")]) == 2
    assert "report.md: cannot be made (File exists)" in capsys.readouterr().err
    assert (tmp_path / "report.md").read_text() == "mine"
    assert (tmp_path / "recipe.json").read_text() == '{"flour": 3}'
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_are_not_read_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "data", tmp_path / "output"
    (data / "deeper").mkdir(parents=True)
    output.mkdir()
    (output / "mine").write_text("so that nothing is computed")
    for name in ("a.png", "b.txt", "deeper/c.jpg", "deeper/d.raw", ".hidden", "Thumbs.db"):
        (data / name).write_text("")
    assert main(["distill", "--data.source", str(data), "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert said.count("not read") == 1
    assert f"{data}: 2 files are not read, without the suffix of an image: b.txt\n" in said
    (data / "b.txt").unlink()
    assert main(["distill", "--data.source", str(data), "--output", str(output)]) == 2
    line = "1 file is not read, without the suffix of an image: deeper/d.raw\n"
    assert line in capsys.readouterr().err
    (data / "deeper" / "d.raw").unlink()
    assert main(["distill", "--data.source", str(data), "--output", str(output)]) == 2
    assert "not read" not in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        assert main(["distill", "--output", str(tmp_path)]) == 2
    finally:
        os.close(number)
    said = capsys.readouterr().err
    assert f"output {tmp_path}: another cdjax distill is running in it" in said
    assert not list(tmp_path.iterdir())


def test_logs_of_a_killed_run_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = ['{"step": 1, "loss": 3}', '{"step": 2, "loss": 9}', '{"step": 2, "loss": 2}', '{"st']
    log.write_text("\n".join(lines))
    assert read_log(log) == [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}]


def phase_of(steps: int) -> TrainTask:
    spec = student(1)
    return TrainTask("student_autoencoder", (spec,), spec, PhaseConfig(steps))


def test_a_phase_that_goes_on_appends(tmp_path: Path) -> None:
    watching, task = Watch(), phase_of(3)
    for steps in ((1, 2), (2, 3)):
        with watching.phase(task, tmp_path, batch=4) as phase:
            for step in steps:
                phase.on_progress(Progress(task.name, step, 3, {"loss": 1.0 / step}))
        with open(tmp_path / "log.jsonl", "a") as log:
            log.write('{"st')  # As a run that is killed may leave it.
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_prints_nothing_and_logs_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    assert parse(["-q"] if quiet else []).quiet == quiet
    watching, task = Watch(quiet=quiet), phase_of(1)
    watching.on_progress(Progress("teacher", message="teacher: normalising"))
    with watching.phase(task, tmp_path, batch=4) as phase:
        phase.on_progress(Progress(task.name, 1, 1, {"loss": 1.0}))
    assert bool(capsys.readouterr().err) != quiet
    assert len(read_log(tmp_path / "log.jsonl")) == 1


def test_a_full_disk_ends_the_log_with_an_error(tmp_path: Path) -> None:
    task = phase_of(3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))

    def train() -> None:
        with Watch().phase(task, tmp_path, batch=4) as phase:
            phase.on_progress(Progress(task.name, 1, 3, {"loss": 1.0}))

    try:
        with pytest.raises(OSError, match="File too large"):
            train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_images_a_second_are_those_of_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before a checkpoint the last step is told with the one before it.
    times = [30.0, *(32.0 + 2 * step for step in range(38)), 106.001]
    watching = Watch()
    clock = SimpleNamespace(monotonic=iter(times).__next__, time=lambda: 0.0)
    monkeypatch.setattr(training_log, "time", clock)
    with watching.phase(phase_of(len(times)), tmp_path, batch=4) as phase:
        for step in range(len(times)):
            phase.on_progress(Progress("phase", step + 1, len(times), {"loss": 1.0}))
    rates = [record.get("images_per_second") for record in read_log(tmp_path / "log.jsonl")]
    assert rates[:2] == [None, pytest.approx(2)]
    assert all(rate == pytest.approx(2, rel=0.06) for rate in rates[1:])


def test_grid_shows_every_image_in_its_place() -> None:
    columns = {
        "input": np.full((2, 8, 8, 3), 10, np.uint8),
        "student": np.stack([np.full((8, 8, 3), value, np.uint8) for value in (50, 90)]),
    }
    sheet = np.asarray(picture_grid(columns))
    assert sheet.shape == (14 + 16, 16, 3)
    assert [sheet[18, 4, 0], sheet[18, 12, 0], sheet[26, 12, 0]] == [10, 50, 90]
