"""Teacher -> starts -> phases -> model: a whole distillation in a folder that remembers.

Everything finished is a model in the folder, written whole, and is not made again:

    teacher/                        the teacher's encoder, normalised
    stage{k}/encoder_start/         the student's encoder before training
    stage{k}/decoder_start/         its decoder before training, with the encoder it starts from
    stage{k}/{phase}/checkpoints/   of a phase: state and position in the data
    stage{k}/{phase}/model/         what the phase has made
    stage{k}/model/                 what all phases have made
    model/                          all stages together
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.checkpoints.load import load_model
from cdjax.checkpoints.store import save_model
from cdjax.data.loader import Batches
from cdjax.data.pairs import Pairs
from cdjax.distillation.config import PHASES, STAGE_PHASES, Phase, Recipe, Task
from cdjax.distillation.initialization.initialize import Initialization
from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.initialization.starts import (
    decoder_start,
    encoder_start,
    student_to_go_on_from,
)
from cdjax.distillation.previews import reconstructions
from cdjax.distillation.train_loop import train
from cdjax.distillation.train_step import State, initial_state
from cdjax.distillation.transfer_objective import TRAINED, as_model, as_trained
from cdjax.distillation.whitened_adam import input_factors
from cdjax.errors import TeacherError
from cdjax.io.processes import barrier
from cdjax.model import Method, Model, ModelConfig, Params
from cdjax.networks.spec import Spec, student
from cdjax.networks.teachers import normalized_teacher, teacher_encoder

_NORMALIZED_OVER = 1000
_WHITENED_OVER = 256
_SHOWN = 4


class PhaseObserver(Protocol):
    """Whoever watches one phase being trained."""

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """After every step; the first is 1, or where a run that goes on goes on."""

    def pictures(self, step: int, columns: dict[str, Images]) -> None:
        """Every so often: the same images, and what networks make of them, uint8 (N, H, W, 3)."""


class Observer(Protocol):
    """Whoever watches a distillation."""

    def say(self, line: str) -> None:
        """Something that a person may want to know."""

    def phase(
        self, stage: int, phase: Phase, folder: Path, *, steps: int, batch: int
    ) -> AbstractContextManager[PhaseObserver]:
        """Around the training of a phase."""


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    folder: Path
    observer: Observer
    teacher: Model

    @cached_property
    def images(self) -> Images:
        """The crops that starts are made from; read when first needed."""
        return sample_images(self.recipe)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        return self.teacher.config.specs[0].depths

    def key(self, *path: int) -> jax.Array:
        key = jax.random.key(self.recipe.data.seed)
        for number in path:
            key = jax.random.fold_in(key, number)
        return key


def sample_images(recipe: Recipe, count: int | None = None) -> Images:
    """The first crops of a recipe's data, as its start wants them: (count, crop, crop, 3) uint8."""
    start, data = recipe.start, recipe.data
    side = data.shorter_side if data.source == "dead-leaves" else max(data.shorter_side, start.crop)
    config = replace(data, crop=start.crop, shorter_side=side, batch=1, workers=0)
    with Batches(config) as crops:
        wanted = start.images if count is None else count
        if data.source != "dead-leaves":
            # A second crop of a photograph would be on both sides of lsq's split.
            wanted = min(wanted, crops.examples_per_epoch)
        return np.concatenate([next(crops) for _ in range(wanted)])


def distill(recipe: Recipe, folder: Path, observer: Observer) -> Model:
    """Makes what the folder does not hold yet.

    Args:
        recipe: what to do.
        folder: where; made if it is not there.
        observer: told of everything.

    Returns:
        The students of all stages of the recipe.

    Raises:
        ValueError: if the recipe cannot be followed (`DataError`, `TeacherError` and
            `CheckpointError` are such); the message says what to change.
        TrainingError: if a loss is not finite, or checkpoints in the folder are of other settings.
    """
    stages = sorted(recipe.stages, reverse=True)
    if not all((folder / f"stage{stage}" / "model").is_dir() for stage in stages):
        for phase in PHASES:
            if recipe.phase(phase).steps:
                with _batches(recipe, phase):  # Fails now rather than after hours.
                    pass
    teacher = _saved(folder / "teacher", observer, partial(_make_teacher, recipe, observer))
    run = _Run(recipe, folder, observer, teacher)
    for stage in stages:
        teacher_encoder(teacher, stage)  # Likewise.
        if recipe.start.model and not (folder / f"stage{stage}" / "model").is_dir():
            student_to_go_on_from(recipe.start.model, student(stage, depths=run.depths))
    made = [
        _saved(folder / f"stage{k}" / "model", observer, partial(_make_stage, run, k))
        for k in stages
    ]
    specs = tuple(model.config.specs[0] for model in made)
    params = {name: part for model in made for name, part in model.params.items()}
    model = Model(params, ModelConfig(recipe.method, specs, teacher.config.teacher))
    if recipe.student_transfer.steps:
        path = folder / "student_transfer"
        model = _saved(path / "model", observer, partial(_train_transfer, run, model, path))
    save_model(folder / "model", model, overwrite=True)
    return model


def _saved(path: Path, observer: Observer, make: Callable[[], Model]) -> Model:
    """The model at `path`; made by `make` and saved there if there is none."""
    there = path.is_dir()
    barrier(f"{path} looked for")  # Before the first process has made what others look for.
    if there:
        observer.say(f"{path}: there already")
    else:
        save_model(path, make())
    return load_model(path)


def _make_teacher(recipe: Recipe, observer: Observer) -> Model:
    model = load_model(recipe.teacher)
    if model.config.teacher.endswith("-normalised"):
        return model
    observer.say(f"teacher {model.config.teacher}: normalising its filters")
    count = min(recipe.start.images, _NORMALIZED_OVER)
    return normalized_teacher(model, sample_images(recipe, count))


def _train_transfer(run: _Run, model: Model, folder: Path) -> Model:
    """The model after all its stages have learnt together (phase `student_transfer`)."""
    networks = as_trained(model.params)
    specs = model.config.specs
    spec, teacher = teacher_encoder(run.teacher, specs[0].stage)
    task = replace(run.recipe.task("student_transfer", specs[0], spec), cascade=specs)
    held: dict[str, Params] = {"teacher": teacher}
    if task.whitened:
        held["factors"] = {}
        for each in specs:
            parts = {part: model.params[f"stage{each.stage}"][part] for part in TRAINED}
            factors = input_factors(parts, run.images[:_WHITENED_OVER], student=each)
            held["factors"] |= as_trained({f"stage{each.stage}": factors})
    state = _run_phase(run, task, folder, networks, held)
    return Model(as_model(state.params), model.config)


def _make_stage(run: _Run, stage: int) -> Model:
    """The student of a stage: encoder, embedding and decoder."""
    recipe, folder = run.recipe, run.folder / f"stage{stage}"
    spec, name = student(stage, depths=run.depths), f"stage{stage}"
    if recipe.start.model and not any(recipe.phase(phase).steps for phase in STAGE_PHASES):
        networks = student_to_go_on_from(recipe.start.model, spec)
        return _model(run, spec, {part: networks[part] for part in ("encoder", "decoder")})
    teacher = {"teacher": teacher_encoder(run.teacher, stage)[1]}
    big: Params | None = None
    if recipe.needs_teacher_decoder:
        big = _teacher_decoder(run, stage, teacher)
    start = _encoder_start(run, spec)
    trained = {part: start.params[name][part] for part in ("encoder", "embedding")}
    frozen = teacher if big is None else {**teacher, "decoder": big}
    trained = _train(run, spec, "student_encoder", trained, frozen)
    begin = partial(_make_decoder_start, run, spec, trained, big)
    start = _saved(folder / "decoder_start", run.observer, begin)
    trained["decoder"] = start.params[name]["decoder"]
    trained = _train(run, spec, "student_pair", trained, teacher, shown=big)
    decoder = {"decoder": trained["decoder"]}
    frozen = {**teacher, "encoder": trained["encoder"]}
    trained |= _train(run, spec, "student_decoder", decoder, frozen, shown=big)
    return _model(run, spec, trained)


def _model(run: _Run, spec: Spec, networks: dict[str, Params]) -> Model:
    method: Method = run.recipe.method if "decoder" in networks else "encoder"
    config = ModelConfig(method, (spec,), run.teacher.config.teacher)
    return Model({f"stage{spec.stage}": networks}, config)


def _teacher_decoder(run: _Run, stage: int, frozen: dict[str, Params]) -> Params:
    """The teacher's own decoder, or one trained to invert its encoder."""
    own = run.teacher.params.get(f"stage{stage}", {})
    if "decoder" in own and run.teacher.config.method == run.recipe.method:
        return own["decoder"]
    spec, _ = teacher_encoder(run.teacher, stage)
    if not run.recipe.teacher_decoder.steps:
        raise TeacherError(
            f"{run.teacher.config.teacher} has no {run.recipe.method} decoder of stage {stage}, "
            "which this recipe needs: give teacher_decoder some steps, or student_encoder only "
            "the embedding loss and start another method than l1"
        )

    def make() -> Model:
        start = run.recipe.start
        # There is nothing to prune it from.
        method: Initialization = "lsq" if start.method == "lsq" else "random"
        run.observer.say(f"stage {stage}: {method} start of the teacher's decoder")
        decoder = decoder_start(
            run.key(stage, 2), spec, frozen["teacher"], run.images,
            start=replace(start, method=method, model=None), report=run.observer.say,
        )  # fmt: skip
        return _model(run, spec, {"encoder": frozen["teacher"], "decoder": decoder})

    path = run.folder / f"stage{stage}" / "teacher_decoder_start"
    begin = _saved(path, run.observer, make).params[f"stage{stage}"]["decoder"]
    return _train(run, spec, "teacher_decoder", {"decoder": begin}, frozen)["decoder"]


def _encoder_start(run: _Run, spec: Spec) -> Model:
    """The student's encoder before training; lsq's is cut from that of a deeper stage."""
    start = run.recipe.start
    deepest = max(k for k in run.recipe.stages if student(k).widths[: spec.stage] == spec.widths)
    whole = student(deepest, depths=spec.depths) if start.origin == "lsq" else spec

    def make() -> Model:
        run.observer.say(f"stage {whole.stage}: {start.origin} start of the student's encoder")
        networks = encoder_start(
            run.key(whole.stage, 0), whole, teacher_encoder(run.teacher, whole.stage), run.images,
            start=start, report=run.observer.say,
        )  # fmt: skip
        return _model(run, whole, networks)

    model = _saved(run.folder / f"stage{whole.stage}" / "encoder_start", run.observer, make)
    networks = model.params[f"stage{whole.stage}"]
    encoder = {name: networks["encoder"][name] for name in _layers(spec)}
    embedding = {name: networks["embedding"][name] for name, _ in spec.taps}
    return _model(run, spec, {"encoder": encoder, "embedding": embedding})


def _layers(spec: Spec) -> tuple[str, ...]:
    return ("conv0", *(conv.name for conv in spec.encoder))


def _make_decoder_start(
    run: _Run, spec: Spec, networks: dict[str, Params], big: Params | None
) -> Model:
    start = run.recipe.start
    run.observer.say(f"stage {spec.stage}: {start.origin} start of the student's decoder")
    teacher = None if big is None else (teacher_encoder(run.teacher, spec.stage)[0], big)
    decoder = decoder_start(
        run.key(spec.stage, 1), spec, networks["encoder"], run.images,
        start=start, teacher=teacher, report=run.observer.say,
    )  # fmt: skip
    return _model(run, spec, {**networks, "decoder": decoder})


def _train(
    run: _Run,
    spec: Spec,
    phase: Phase,
    networks: dict[str, Params],
    frozen: dict[str, Params],
    *,
    shown: Params | None = None,
) -> dict[str, Params]:
    """The networks after a phase; as they are if it has no steps.

    The teacher's decoder is `shown` in pictures where a phase does not need it itself.
    """
    if not run.recipe.phase(phase).steps:
        return networks
    folder, name = run.folder / f"stage{spec.stage}" / phase, f"stage{spec.stage}"
    # The teacher's own decoder has no student; its task does not look at one.
    task = run.recipe.task(phase, spec, teacher_encoder(run.teacher, spec.stage)[0])

    def make() -> Model:
        held = dict(frozen)
        if task.whitened:
            images = run.images[:_WHITENED_OVER]
            own = {part: frozen[part] for part in ("encoder",) if part in frozen} | networks
            factors = input_factors(own, images, student=spec)
            held["factors"] = {part: factors[part] for part in networks}
        seen = held if shown is None else {**held, "decoder": shown}
        state = _run_phase(run, task, folder, networks, held, seen)
        # A model is whole: a decoder is stored with the encoder that it inverts.
        beside = {"encoder": frozen.get("encoder", frozen["teacher"])}
        return _model(run, spec, beside | state.params)

    model = _saved(folder / "model", run.observer, make)
    return {part: model.params[name][part] for part in networks}


def _run_phase(
    run: _Run,
    task: Task,
    folder: Path,
    networks: dict[str, Params],
    held: dict[str, Params],
    seen: dict[str, Params] | None = None,
) -> State:
    """Trains the networks; pictures are made of them with those that are held, or `seen`."""
    recipe, training = run.recipe, run.recipe.phase(task.phase)
    images = _shown(recipe, task.phase)
    show = partial(reconstructions, task, images, held if seen is None else seen)
    hosts = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    with (
        _batches(recipe, task.phase, **hosts) as data,
        run.observer.phase(
            task.student.stage, task.phase, folder, steps=training.steps, batch=recipe.data.batch
        ) as watch,
    ):
        state = train(
            initial_state(_copy(networks), task=task), held, data, folder / "checkpoints",
            task=task, steps=training.steps, save_every=recipe.save_every, keep=recipe.keep,
            report=watch.step, inspect_every=recipe.pictures_every,
            inspect=lambda step, state: watch.pictures(step, show(jax.device_get(state.params))),
            about=recipe.to_json(),
        )  # fmt: skip
        if data.skipped:
            run.observer.say(f"{data.skipped} broken images skipped: {', '.join(data.broken)}")
    return state


def _copy(networks: dict[str, Params]) -> dict[str, Params]:
    """Arrays of their own for the state, which is donated."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), networks)


def _shown(recipe: Recipe, phase: Phase) -> Images:
    """The few crops whose reconstructions are shown."""
    config = replace(recipe.data, batch=_SHOWN, seed=recipe.data.seed + 2, workers=0)
    with _batches(replace(recipe, data=config), phase) as crops:
        return next(crops)


def _batches(recipe: Recipe, phase: Phase, **hosts: int) -> Batches | Pairs:
    if recipe.method == "adain" or phase == "student_transfer":
        share = recipe.styles.contents
        return Pairs(recipe.data, recipe.style_data, contents_as_styles=share, **hosts)
    return Batches(recipe.data, **hosts)
