"""A whole distillation in a folder: teacher -> initialised student -> phases -> model.

Everything finished is a model in the folder, written atomically, and is not made again:

    teacher/                        the teacher's encoder, normalised
    stage{k}/encoder_start/         the student's encoder before training
    stage{k}/decoder_start/         its decoder before training, with the encoder it starts from
    stage{k}/{phase}/checkpoints/   of a phase: state and position in the data
    stage{k}/{phase}/model/         the result of the phase
    stage{k}/model/                 the result of all phases of the stage
    student_transfer/               checkpoints and result of the phase of all stages
    model/                          all stages together
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp

from cdjax.checkpoints.combine import combine_models
from cdjax.checkpoints.load import load_model
from cdjax.checkpoints.store import save_model
from cdjax.distillation.config import PHASES, STAGE_PHASES, DistillationConfig, Phase, TrainTask
from cdjax.distillation.images import make_previews, open_batches, preview_images, sample_images
from cdjax.distillation.initialization import initialize
from cdjax.distillation.objectives import Networks
from cdjax.distillation.train_loop import train
from cdjax.distillation.train_step import State, initial_state
from cdjax.distillation.transfer_objective import TRAINED, as_model, as_trained
from cdjax.distillation.whitened_adam import input_factors
from cdjax.errors import TeacherError
from cdjax.io.processes import barrier
from cdjax.model import Images, Method, Model, ModelConfig, Params
from cdjax.networks.spec import Spec, student
from cdjax.networks.teachers import normalized_teacher, teacher_encoder
from cdjax.progress import Progress

_NORMALIZED_OVER = 1000
_WHITENED_OVER = 256


class PhaseObserver:
    """Observes the training of one phase; this one does nothing."""

    def on_progress(self, progress: Progress) -> None:
        """Called after every step; a resumed run starts with the step it continues from."""

    def on_preview(self, step: int, columns: Mapping[str, Images]) -> None:
        """Called now and then with the same images and their results, (N, H, W, 3) uint8."""


class Observer:
    """Observes a distillation; this one does nothing."""

    def on_progress(self, progress: Progress) -> None:
        """Called with messages, and with the progress of everything but phases."""

    @contextmanager
    def phase(self, task: TrainTask, folder: Path, *, batch: int) -> Iterator[PhaseObserver]:
        """Surrounds the training of a phase, whose folder may take logs and pictures."""
        yield PhaseObserver()


@dataclass(frozen=True)
class _Run:
    config: DistillationConfig
    folder: Path
    observer: Observer

    @cached_property
    def given_teacher(self) -> Model:
        """The teacher as in the folder or, if it is not there yet, as it was given."""
        made = self.folder / "teacher"
        return load_model(made if made.is_dir() else self.config.teacher)

    @cached_property
    def teacher(self) -> Model:
        return self.saved("teacher", partial(_make_teacher, self))

    @cached_property
    def images(self) -> Images:
        """The crops that students are initialised from; read when first needed."""
        return sample_images(self.config)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        return self.given_teacher.config.specs[0].depths

    def key(self, stage: int, use: int) -> jax.Array:
        of_stage = jax.random.fold_in(jax.random.key(self.config.data.seed), stage)
        return jax.random.fold_in(of_stage, use)

    def say(self, task: str, message: str) -> None:
        self.observer.on_progress(Progress(task, message=f"{task}: {message}"))

    def saved(self, name: str, make: Callable[[], Model]) -> Model:
        """The model in a subfolder, made and saved first if it does not exist."""
        path = self.folder / name
        exists = path.is_dir()
        barrier(f"{path} looked for")  # Before the first process has made what others look for.
        if exists:
            self.say(str(path), "already exists")
        else:
            save_model(path, make())
        return load_model(path)


def distill(config: DistillationConfig, folder: Path, observer: Observer | None = None) -> Model:
    """Distils a student, making only what the folder does not contain yet.

    Args:
        config: what to do.
        folder: of all results; created if missing.
        observer: receives progress and previews.

    Returns:
        The students of all stages.

    Raises:
        CdjaxError: if the configuration cannot be followed; the message says what to change.
        TrainingError: if a loss is not finite, or checkpoints in the folder are of other settings.
    """
    config = _with_transforms_of_start(config)
    run = _Run(config, folder, observer or Observer())
    stages = sorted(config.stages, reverse=True)
    _check(run, stages)
    made = [run.saved(f"stage{k}/model", partial(_make_stage, run, k)) for k in stages]
    model = combine_models(made) if len(made) > 1 else made[0]
    strengths = tuple(zip(stages, config.strengths, strict=False))
    transforms = tuple(zip(stages, config.transforms, strict=False))
    whole = replace(model.config, strengths=strengths, transforms=transforms)
    model = replace(model, config=whole)
    if config.student_transfer.steps:
        model = run.saved("student_transfer/model", partial(_train_transfer, run, model))
    save_model(folder / "model", model, overwrite=True)
    return model


def _check(run: _Run, stages: Sequence[int]) -> None:
    """Finds what is wrong with data, teacher or start now rather than after hours; makes nothing.

    Raises:
        CdjaxError: if something is.
    """
    config, folder = run.config, run.folder
    unfinished = [k for k in stages if not (folder / f"stage{k}" / "model").is_dir()]
    for phase in PHASES if unfinished else ():
        if config.phase(phase).steps:
            open_batches(config, phase).close()
    for stage in stages:
        teacher_encoder(run.given_teacher, stage)
        if config.start.model and stage in unfinished:
            initialize.existing_student(config.start.model, student(stage, depths=run.depths))


def _with_transforms_of_start(config: DistillationConfig) -> DistillationConfig:
    """The configuration with transforms and strengths of `start.model`, where it has none."""
    if config.start.model is None:
        return config
    found = load_model(config.start.model).config
    stages = sorted(config.stages, reverse=True)
    strengths = tuple(found.strength_of(stage) for stage in stages)
    transforms = tuple(dict(found.transforms).get(stage, config.method) for stage in stages)
    if not config.strengths and set(strengths) != {1.0}:
        config = replace(config, strengths=strengths)
    if not config.transforms and set(transforms) != {config.method}:
        config = replace(config, transforms=transforms)
    return config


def _make_teacher(run: _Run) -> Model:
    model = run.given_teacher
    name = model.config.teacher
    if name.endswith("-normalised"):
        return model
    run.say(f"teacher {name}", "normalising its filters")
    count = min(run.config.start.images, _NORMALIZED_OVER)
    return normalized_teacher(model, sample_images(run.config, count))


def _make_stage(run: _Run, stage: int) -> Model:
    """The student of a stage: encoder, embedding and decoder."""
    config = run.config
    spec, name = student(stage, depths=run.depths), f"stage{stage}"
    if config.start.model and not any(config.phase(phase).steps for phase in STAGE_PHASES):
        networks = initialize.existing_student(config.start.model, spec)
        return _model(run, spec, {part: networks[part] for part in TRAINED})
    teacher = {"teacher": teacher_encoder(run.teacher, stage)[1]}
    if config.needs_teacher_decoder:
        teacher["decoder"] = _teacher_decoder(run, stage, teacher)
    start = _encoder_start(run, spec)
    trained = {part: start.params[name][part] for part in ("encoder", "embedding")}
    trained = _train(run, spec, "student_encoder", trained, teacher)
    begin = partial(_decoder_start, run, spec, trained, teacher.get("decoder"))
    start = run.saved(f"{name}/decoder_start", begin)
    trained["decoder"] = start.params[name]["decoder"]
    trained = _train(run, spec, "student_autoencoder", trained, teacher)
    decoder = {"decoder": trained["decoder"]}
    frozen = {**teacher, "encoder": trained["encoder"]}
    trained |= _train(run, spec, "student_decoder", decoder, frozen)
    return _model(run, spec, trained)


def _model(run: _Run, spec: Spec, networks: Networks) -> Model:
    method: Method = run.config.method if "decoder" in networks else "encoder"
    # A stage that the teacher lacks is taught by its next deeper one; see `teacher_encoder`.
    taught_by = min(each.stage for each in run.teacher.config.specs if each.stage >= spec.stage)
    config = ModelConfig(method, (spec,), run.teacher.config.teacher_of(taught_by))
    return Model({f"stage{spec.stage}": networks}, config)


def _teacher_decoder(run: _Run, stage: int, frozen: Networks) -> Params:
    """The teacher's own decoder, or one trained to invert its encoder."""
    config, own = run.config, run.teacher.params.get(f"stage{stage}", {})
    if "decoder" in own and run.teacher.config.method == config.method:
        return own["decoder"]
    spec, _ = teacher_encoder(run.teacher, stage)
    if not config.teacher_decoder.steps:
        raise TeacherError(
            f"{run.teacher.config.teacher} has no {config.method} decoder of stage {stage}, "
            "which is needed: give teacher_decoder some steps, or train student_encoder with the "
            "embedding loss only and start with another method than l1"
        )

    def make() -> Model:
        # A teacher's decoder cannot be pruned from a larger one.
        method = config.start.method
        start = replace(config.start, method="random" if method == "l1" else method, model=None)
        run.say(f"stage {stage}", f"{start.method} start of the teacher's decoder")
        decoder = initialize.initialize_decoder(
            run.key(stage, 2), spec, frozen["teacher"], run.images,
            start=start, on_progress=run.observer.on_progress,
        )  # fmt: skip
        return _model(run, spec, {"encoder": frozen["teacher"], "decoder": decoder})

    begin = run.saved(f"stage{stage}/teacher_decoder_start", make)
    decoder = {"decoder": begin.params[f"stage{stage}"]["decoder"]}
    return _train(run, spec, "teacher_decoder", decoder, frozen)["decoder"]


def _encoder_start(run: _Run, spec: Spec) -> Model:
    """The student's encoder before training; lsq's is cut from that of a deeper stage."""
    start, stages = run.config.start, run.config.stages
    deepest = max(k for k in stages if student(k).widths[: spec.stage] == spec.widths)
    whole = student(deepest, depths=spec.depths) if start.origin == "lsq" else spec

    def make() -> Model:
        run.say(f"stage {whole.stage}", f"{start.origin} start of the student's encoder")
        networks = initialize.initialize_encoder(
            run.key(whole.stage, 0), whole, teacher_encoder(run.teacher, whole.stage), run.images,
            start=start, on_progress=run.observer.on_progress,
        )  # fmt: skip
        return _model(run, whole, networks)

    begin = run.saved(f"stage{whole.stage}/encoder_start", make)
    _, encoder = teacher_encoder(begin, spec.stage)
    of_taps = begin.params[f"stage{whole.stage}"]["embedding"]
    embedding = {name: of_taps[name] for name, _ in spec.taps}
    return _model(run, spec, {"encoder": encoder, "embedding": embedding})


def _decoder_start(run: _Run, spec: Spec, networks: Networks, big: Params | None) -> Model:
    """The student's decoder before training, with its encoder."""
    start = run.config.start
    run.say(f"stage {spec.stage}", f"{start.origin} start of the student's decoder")
    teacher = None if big is None else (teacher_encoder(run.teacher, spec.stage)[0], big)
    decoder = initialize.initialize_decoder(
        run.key(spec.stage, 1), spec, networks["encoder"], run.images,
        start=start, teacher=teacher, on_progress=run.observer.on_progress,
    )  # fmt: skip
    return _model(run, spec, {**networks, "decoder": decoder})


def _train(run: _Run, spec: Spec, phase: Phase, networks: Networks, frozen: Networks) -> Networks:
    """The networks after a phase; unchanged if it has no steps.

    The teacher's decoder may be among the frozen networks for the previews alone.
    """
    if not run.config.phase(phase).steps:
        return networks
    folder = f"stage{spec.stage}/{phase}"
    # The teacher's own decoder has no student; its task does not use the student's spec.
    task = run.config.task(phase, [spec], teacher_encoder(run.teacher, spec.stage)[0])

    def make() -> Model:
        held = dict(frozen)
        if task.config.whitened:
            own = {part: frozen[part] for part in ("encoder",) if part in frozen} | networks
            factors = input_factors(own, run.images[:_WHITENED_OVER], student=spec)
            held["factors"] = {part: factors[part] for part in networks}
        state = _run_phase(run, task, run.folder / folder, networks, held)
        # A model is whole: a decoder is stored with the encoder that it inverts.
        beside = {"encoder": frozen.get("encoder", frozen["teacher"])}
        return _model(run, spec, beside | state.params)

    model = run.saved(f"{folder}/model", make)
    return {part: model.params[f"stage{spec.stage}"][part] for part in networks}


def _train_transfer(run: _Run, model: Model) -> Model:
    """The model after the phase `student_transfer`."""
    specs = model.config.specs
    spec, teacher = teacher_encoder(run.teacher, specs[0].stage)
    task = run.config.task("student_transfer", specs, spec)
    held: Networks = {"teacher": teacher}
    if task.config.whitened:
        factors, few = {}, run.images[:_WHITENED_OVER]
        for each in specs:
            name = f"stage{each.stage}"
            factors[name] = input_factors(model.params[name], few, student=each)
        held["factors"] = as_trained(factors)
    networks = as_trained(model.params)
    state = _run_phase(run, task, run.folder / "student_transfer", networks, held)
    return Model(as_model(state.params), model.config)


def _run_phase(
    run: _Run, task: TrainTask, folder: Path, networks: Networks, held: Networks
) -> State:
    """Trains the networks of a task beside those that are held frozen."""
    config = run.config
    images = preview_images(config, task.phase)
    own = jax.tree.map(jnp.copy, networks)  # The state is donated.
    hosts = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    with (
        open_batches(config, task.phase, **hosts) as batches,
        run.observer.phase(task, folder, batch=config.data.batch) as watch,
    ):
        state = train(
            initial_state(own, task=task), held, batches, folder / "checkpoints",
            task=task, config=config, on_progress=watch.on_progress,
            on_preview=lambda step, state: watch.on_preview(
                step, make_previews(task, images, held, jax.device_get(state.params))
            ),
        )  # fmt: skip
        if batches.skipped:
            names = ", ".join(batches.broken)
            run.say(task.name, f"{batches.skipped} broken images skipped: {names}")
    return state
