"""A distillation in a folder: every phase once, nothing twice, and going on after a stop."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, ModelConfig, Spec, encode_style, load_model, save_model, stylize
from cdjax.checkpoints.combine import combine_models
from cdjax.data.loader import DataConfig
from cdjax.distillation.config import DistillationConfig, PhaseConfig, Start, TrainTask, Weights
from cdjax.distillation.pipeline import Observer, PhaseObserver, distill
from cdjax.distillation.presets import PRESETS
from cdjax.errors import CheckpointError, DataError, TeacherError, TrainingError
from cdjax.progress import Progress
from tests import models

TEACHER = Spec(2, (64, 128), (1, 1, 1, 1, 1))
WHITE = PhaseConfig(4, Weights(1, 30, 0), learning_rate=0.003, decay=True, whitened=True)
SMALL = DistillationConfig(
    data=DataConfig("dead-leaves", crop=32, batch=2, seed=3),
    stages=(2, 1),
    start=Start(images=8, crop=32, decoder_images=8, positions=400, iterations=1),
    student_autoencoder=WHITE,
    student_decoder=replace(WHITE, weights=Weights(0, 1, 0.01), perceptual_encoder="student"),
    save_every=2,
    pictures_every=3,
)


class Notes(Observer):
    """An observer that remembers."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[int, str, int]] = []
        self.shown: list[tuple[str, int, dict[str, NDArray[np.uint8]]]] = []
        self.fail_at = fail_at

    def on_progress(self, progress: Progress) -> None:
        self.lines.append(progress.message)

    @contextmanager
    def phase(self, task: TrainTask, folder: Path, *, batch: int) -> Iterator[PhaseObserver]:
        notes, stage, phase = self, task.student.stage, task.phase

        class Watching(PhaseObserver):
            def on_progress(self, progress: Progress) -> None:
                assert (progress.task, progress.total) == (task.name, task.config.steps)
                assert np.isfinite(progress.metrics["loss"])
                notes.steps.append((stage, phase, progress.done))
                if notes.fail_at == len(notes.steps):
                    raise KeyboardInterrupt

            def on_preview(self, step: int, columns: Mapping[str, NDArray[np.uint8]]) -> None:
                notes.shown.append((phase, step, dict(columns)))

        yield Watching()


def vgg(path: Path, *, decoders: bool = False) -> str:
    """A small random VGG of two blocks, normalised or not, as a checkpoint."""
    params = models.random_model([TEACHER]).params
    if not decoders:
        del params["stage2"]["decoder"]
    name = "random-normalised" if decoders else "random"
    config = ModelConfig("wct" if decoders else "encoder", (TEACHER,), name)
    save_model(path, Model(params, config))
    return str(path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return vgg(tmp_path_factory.mktemp("teacher") / "vgg")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher: str) -> tuple[Path, Notes, Model]:
    folder, notes = tmp_path_factory.mktemp("whole") / "run", Notes()
    return folder, notes, distill(replace(SMALL, teacher=teacher), folder, notes)


def leaves(model: Model) -> list[NDArray[np.float32]]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model.params)]


def test_every_phase_of_every_stage_is_trained(whole: tuple[Path, Notes, Model]) -> None:
    folder, notes, model = whole
    phases = [
        (stage, phase, step)
        for stage in (2, 1)
        for phase in ("student_autoencoder", "student_decoder")
        for step in (1, 2, 3, 4)
    ]
    assert notes.steps == phases
    assert [spec.widths for spec in model.config.specs] == [(16, 32), (24,)]
    assert model.config.teacher == "random-normalised"
    for left, right in zip(leaves(load_model(folder / "model")), leaves(model), strict=True):
        np.testing.assert_array_equal(left, right)


def test_phases_build_on_each_other(whole: tuple[Path, Notes, Model]) -> None:
    folder, _, model = whole
    stages = {
        name: load_model(folder / "stage2" / name).params["stage2"]
        for name in ("encoder_start", "decoder_start", "student_autoencoder/model")
    }
    kernel = {
        name: np.asarray(params["encoder"]["conv2_1"]["kernel"]) for name, params in stages.items()
    }
    assert np.array_equal(kernel["encoder_start"], kernel["decoder_start"])
    assert not np.array_equal(kernel["decoder_start"], kernel["student_autoencoder/model"])
    final = model.params["stage2"]
    np.testing.assert_array_equal(
        final["encoder"]["conv2_1"]["kernel"], kernel["student_autoencoder/model"]
    )
    before = stages["student_autoencoder/model"]["decoder"]["conv2_1"]["kernel"]
    assert not np.array_equal(before, final["decoder"]["conv2_1"]["kernel"])


def test_pictures_are_input_and_reconstructions(whole: tuple[Path, Notes, Model]) -> None:
    _, notes, _ = whole
    assert [(phase, step) for phase, step, _ in notes.shown[:2]] == [
        ("student_autoencoder", 3),
        ("student_autoencoder", 4),
    ]
    columns = notes.shown[0][2]
    assert list(columns) == ["input", "student"]
    assert columns["student"].shape == columns["input"].shape == (4, 32, 32, 3)
    assert columns["student"].dtype == np.uint8
    assert columns["student"].std() > 1


def test_the_model_stylises(whole: tuple[Path, Notes, Model]) -> None:
    model = whole[2]
    content, style = (models.random_image(1, 40, 48, seed=seed) / 255 for seed in (1, 2))
    result = stylize(
        model, content.astype(np.float32), encode_style(model, style.astype(np.float32))
    )
    assert result.shape == content.shape
    assert np.isfinite(result).all()
    assert np.asarray(result).std() > 0.01


def test_what_is_there_is_not_made_again(whole: tuple[Path, Notes, Model], teacher: str) -> None:
    folder, _, model = whole
    notes = Notes()
    again = distill(replace(SMALL, teacher=teacher), folder, notes)
    assert notes.steps == []
    assert any("stage1/model: already exists" in line for line in notes.lines)
    for left, right in zip(leaves(again), leaves(model), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_stopped_run_goes_on_to_the_same_model(
    whole: tuple[Path, Notes, Model], teacher: str, tmp_path: Path
) -> None:
    recipe = replace(SMALL, teacher=teacher)
    notes = Notes(fail_at=7)
    with pytest.raises(KeyboardInterrupt):
        distill(recipe, tmp_path, notes)
    assert notes.steps[-1] == (2, "student_decoder", 3)
    notes = Notes()
    model = distill(recipe, tmp_path, notes)
    assert notes.steps[0] == (2, "student_decoder", 3)
    for left, right in zip(leaves(model), leaves(whole[2]), strict=True):
        np.testing.assert_array_equal(left, right)


def test_checkpoints_of_another_recipe_are_not_continued(teacher: str, tmp_path: Path) -> None:
    recipe = replace(SMALL, teacher=teacher, stages=(1,))
    with pytest.raises(KeyboardInterrupt):
        distill(recipe, tmp_path, Notes(fail_at=3))
    other = replace(recipe, student_autoencoder=replace(WHITE, learning_rate=0.1))
    with pytest.raises(TrainingError, match="another task"):
        distill(other, tmp_path, Notes())


def test_l1_through_a_decoder_that_the_teacher_lacks(teacher: str, tmp_path: Path) -> None:
    plain = PhaseConfig(3, Weights(1, 1, 1), learning_rate=1e-3)
    recipe = replace(
        SMALL,
        teacher=teacher,
        stages=(1,),
        start=replace(SMALL.start, method="l1"),
        student_encoder=plain,
        student_autoencoder=PhaseConfig(),
        student_decoder=plain,
    )
    with pytest.raises(TeacherError, match="no wct decoder of stage 1"):
        distill(recipe, tmp_path / "a", Notes())
    notes = Notes()
    distill(replace(recipe, teacher_decoder=plain), tmp_path / "b", notes)
    assert [phase for _, phase, step in notes.steps if step == 1] == [
        "teacher_decoder",
        "student_encoder",
        "student_decoder",
    ]
    assert [list(columns) for _, _, columns in notes.shown] == [
        ["input", "teacher"],
        ["input", "teacher", "student"],
        ["input", "teacher", "student"],
    ]


def test_a_teacher_with_decoders_keeps_its_own(tmp_path: Path) -> None:
    path = vgg(tmp_path / "vgg", decoders=True)
    recipe = replace(
        SMALL,
        teacher=path,
        stages=(2,),
        student_encoder=PhaseConfig(2, Weights(1, 1, 1)),
        student_autoencoder=PhaseConfig(),
        student_decoder=PhaseConfig(),
    )
    notes = Notes()
    distill(recipe, tmp_path / "run", notes)
    assert {phase for _, phase, _ in notes.steps} == {"student_encoder"}
    assert list(notes.shown[0][2]) == ["input", "teacher", "student"]


def test_each_stage_names_its_own_teacher(tmp_path: Path) -> None:
    parts = []
    shallow = Spec(1, (64,), TEACHER.depths)
    for spec, name in ((TEACHER, "deep-normalised"), (shallow, "flat-normalised")):
        encoder = models.random_model([spec]).params[f"stage{spec.stage}"]["encoder"]
        config = ModelConfig("encoder", (spec,), name)
        parts.append(Model({f"stage{spec.stage}": {"encoder": encoder}}, config))
    save_model(tmp_path / "vgg", combine_models(parts))
    recipe = replace(
        SMALL,
        teacher=str(tmp_path / "vgg"),
        start=replace(SMALL.start, method="random"),
        student_autoencoder=PhaseConfig(),
        student_decoder=PhaseConfig(),
    )
    distill(recipe, tmp_path / "run", Notes())
    for folder, stages in (("model", (2, 1)), ("stage1/model", (1,))):
        config = load_model(tmp_path / "run" / folder).config
        names = {2: "deep-normalised", 1: "flat-normalised"}
        assert [config.teacher_of(stage) for stage in stages] == [names[k] for k in stages]


def test_it_goes_on_from_a_student_that_is_there(
    whole: tuple[Path, Notes, Model], teacher: str, tmp_path: Path
) -> None:
    folder, _, model = whole
    # The method, which would need the teacher's decoder, has nothing to say.
    start = replace(SMALL.start, method="l1", model=str(folder / "model"))
    idle = replace(SMALL, teacher=teacher, start=start, student_decoder=PhaseConfig())
    notes = Notes()
    same = distill(replace(idle, student_autoencoder=PhaseConfig()), tmp_path / "same", notes)
    for stage, networks in same.params.items():
        for part in ("encoder", "decoder"):
            before = model.params[stage][part]
            assert jax.tree.all(jax.tree.map(np.array_equal, networks[part], before))
    notes = Notes()
    on = distill(replace(idle, stages=(1,)), tmp_path / "on", notes)
    assert f"stage 1: {folder / 'model'} start of the student's encoder" in notes.lines
    assert [step for _, _, step in notes.steps] == [1, 2, 3, 4]
    kernel = on.params["stage1"]["decoder"]["conv1_1"]["kernel"]
    before = model.params["stage1"]["decoder"]["conv1_1"]["kernel"]
    assert 0 < np.abs(kernel - before).max() < 0.1 * np.abs(before).max()


def test_a_student_that_cannot_be_gone_on_from_is_refused_at_once(
    whole: tuple[Path, Notes, Model], teacher: str, tmp_path: Path
) -> None:
    def begin(name: str) -> None:
        start = replace(SMALL.start, model=name)
        distill(replace(SMALL, teacher=teacher, start=start), tmp_path, Notes())

    with pytest.raises(ValueError, match=r"adain-16x has no stage 2, only \[1, 4\]"):
        begin("adain-16x")
    with pytest.raises(ValueError, match="other layers than the student"):
        begin(teacher)
    with pytest.raises(ValueError, match="has no decoder"):
        begin(str(whole[0] / "stage2" / "encoder_start"))
    with pytest.raises(CheckpointError, match="nothing"):
        begin(str(tmp_path / "nothing"))


def test_impossible_recipes_are_refused_at_once(teacher: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="reaches stage 2, not stage 3"):
        distill(replace(SMALL, teacher=teacher, stages=(3, 1)), tmp_path, Notes())
    data = DataConfig(str(tmp_path / "none"), crop=32)
    with pytest.raises(DataError, match="no such folder"):
        distill(replace(SMALL, teacher=teacher, data=data), tmp_path / "x", Notes())
    with pytest.raises(ValueError, match="stages must be"):
        replace(SMALL, stages=(0, 1))
    with pytest.raises(ValueError, match="stages must be"):
        replace(SMALL, stages=(1, 1))
    with pytest.raises(ValueError, match="stages need"):
        replace(SMALL, strengths=(0.5,) * (len(SMALL.stages) + 1))
    with pytest.raises(ValueError, match="save_every must be at least 1"):
        replace(SMALL, save_every=0)
    with pytest.raises(ValueError, match="whitened"):
        replace(SMALL, teacher_decoder=WHITE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -5}, "student_autoencoder.steps must be at least 0, not -5"),
        ({"learning_rate": -1.0}, "student_autoencoder.learning_rate must be above 0, not -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
        ({"clip": -1.0}, "student_autoencoder.clip must be at least 0"),
        (
            {"weights": Weights(shallow_tap_weight=-1)},
            "student_autoencoder.weights.shallow_tap_weight must be at least 0",
        ),
        ({"weights": Weights(pixel=float("inf"))}, "student_autoencoder.weights.pixel must be"),
    ],
)
def test_impossible_numbers_of_a_phase_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, student_autoencoder=replace(WHITE, **change))
    with pytest.raises(ValueError, match=r"start\.images must be at least 1, not 0"):
        replace(SMALL, start=replace(SMALL.start, images=0))


def test_the_paper_preset_is_the_papers() -> None:
    recipe = PRESETS["wct"]["paper"]
    data = recipe.data
    assert (data.source, data.shorter_side, data.crop, data.batch) == (
        "tfds:coco/2014",
        300,
        256,
        16,
    )
    assert recipe.start.method == "l1"
    for phase in ("teacher_decoder", "student_encoder", "student_decoder"):
        training = recipe.phase(phase)
        assert training.learning_rate == 1e-4
        assert not training.decay
        assert 19.99 < training.steps * data.batch / 82_783 < 20.01
    assert recipe.student_encoder.weights == Weights(10, 1, 1)
    assert recipe.student_decoder.weights.perceptual == 0.01
