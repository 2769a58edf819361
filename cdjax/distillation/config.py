"""Configuration of a distillation: `DistillationConfig` for all of it, `TrainTask` for one step."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from operator import attrgetter
from typing import Any, Literal, get_args

from cdjax.data.loader import DataConfig
from cdjax.model import check_transforms
from cdjax.networks.spec import Spec, check_strengths

TransferMethod = Literal["wct", "adain"]
Initialization = Literal["random", "l1", "lsq"]
Phase = Literal[
    "teacher_decoder",
    "student_encoder",
    "student_autoencoder",
    "student_decoder",
    "student_transfer",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""The phases in the order in which they run."""
STAGE_PHASES = PHASES[:-1]
"""The phases of each stage; `student_transfer` trains all stages together."""


@dataclass(frozen=True)
class Weights:
    """Weights of a phase's losses; those of losses that the phase does not have are ignored.

    The defaults are the paper's, except for `student_decoder`, whose perceptual weight is 0.01.

    Attributes:
        embedding: of the linear embedding loss (phases that train an encoder of one stage).
        pixel: of the mean squared error of pixels.
        perceptual: of the mean squared errors of taps.
        content: of the content loss of AdaIN and of `student_transfer`.
        style: of the style loss of AdaIN and of `student_transfer`.
        sliced: of the sliced Wasserstein distance to the style in `student_transfer`.
        shallow_tap_weight: factor of the embedding losses of all taps but the deepest (paper: 1).
            Only the deepest tap is decoded; a student that fits the others already may gain from
            giving them up for it.
    """

    embedding: float = 10.0
    pixel: float = 1.0
    perceptual: float = 1.0
    content: float = 1.0
    style: float = 10.0
    sliced: float = 0.0
    shallow_tap_weight: float = 1.0


COLLABORATION_LOSSES: dict[TransferMethod, tuple[str, ...]] = {
    "wct": ("pixel", "perceptual"),
    "adain": ("content", "style"),
}
"""The losses of decoded images, by method."""


@dataclass(frozen=True)
class PhaseConfig:
    """How a phase is trained; with 0 steps it is skipped.

    Attributes:
        steps: optimisation steps, of one batch each.
        weights: of the losses; those of weight 0 are not computed.
        learning_rate: of Adam.
        decay: whether the learning rate rises over the first twentieth of the steps and then falls
            to 0 along a cosine.
        whitened: whether Adam works in the coordinates of `cdjax.distillation.whitened_adam`. The
            learning rate is then relative to each layer's size, 0.003 to 0.03. Not for the
            teacher's decoder.
        clip: gradients of a larger norm are scaled down to it; 0 for no limit. A single very large
            gradient can move Adam so far that the run does not recover.
        first_layer_lr_scale: factor of the steps of the student encoder's conv1_1. After `lsq`
            this layer has little to gain, and the many deeper features would distort it.
        relu_embedding: whether a ReLU follows the embeddings. The paper's are linear, but the
            teacher's features have passed a ReLU, and a ReLU brings the embedded ones nearer.
        perceptual_encoder: whose taps `student_decoder` compares: the teacher's (paper), or those
            of the student's own encoder, which takes a sixteenth of the work. Its taps differ in
            size, so each tap's perceptual loss is then relative to its mean square.
    """

    steps: int = 0
    weights: Weights = field(default_factory=Weights)
    learning_rate: float = 1e-4
    decay: bool = False
    whitened: bool = False
    clip: float = 0.0
    first_layer_lr_scale: float = 1.0
    relu_embedding: bool = False
    perceptual_encoder: Literal["teacher", "student"] = "teacher"

    def collaborates(self, method: TransferMethod) -> bool:
        """Whether a loss of decoded images has a weight."""
        return any(getattr(self.weights, name) for name in COLLABORATION_LOSSES[method])


@dataclass(frozen=True)
class TrainTask:
    """The training of certain networks in a phase: hashable, static under `jax.jit`.

    Attributes:
        phase: which phase.
        students: the student's specs, deepest first: of one stage, or in `student_transfer` of all.
        teacher: the teacher's spec of the deepest student's stage.
        config: losses and optimiser.
        method: the transform that the networks are for.
        dtype: `"float32"` or `"bfloat16"`, in which the networks compute; parameters, gradients
            and losses are always float32.
        microbatches: number of parts that a batch is cut into, whose gradients are averaged
            (gradient accumulation: the same step with less memory).
        strengths: of the students' transforms, deepest first; all 1 if there are none.
        transforms: their names, deepest first; all are the method if there are none.

    Raises:
        ValueError: if the specs are of different stages.
    """

    phase: Phase
    students: tuple[Spec, ...]
    teacher: Spec
    config: PhaseConfig
    method: TransferMethod = "wct"
    dtype: str = "float32"
    microbatches: int = 1
    strengths: tuple[float, ...] = ()
    transforms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.student.stage != self.teacher.stage:
            raise ValueError(
                f"student and teacher must be of one stage, not {self.student.stage} "
                f"and {self.teacher.stage}"
            )

    @property
    def student(self) -> Spec:
        """Spec of the (deepest) student."""
        return self.students[0]

    @property
    def name(self) -> str:
        """For people, such as `"stage 3 student_decoder"`."""
        if self.phase == "student_transfer":
            return self.phase
        return f"stage {self.student.stage} {self.phase}"

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued, as JSON."""
        plain = _as_json(self)
        if not self.config.decay:
            del plain["config"]["steps"]  # It has no influence on a step.
        return plain


@dataclass(frozen=True)
class Styles:
    """The style images of pairs; everything else is as for the contents.

    Attributes:
        source, split, data_dir, scales, colors: as for `DataConfig`.
        contents: share of the styles that are drawn from the contents' source instead.
    """

    source: str = "dead-leaves"
    split: str = "train"
    data_dir: str | None = None
    scales: tuple[float, float] = (1.0, 1.0)
    colors: bool = False
    contents: float = 0.0


@dataclass(frozen=True)
class Start:
    """How the student's parameters are initialised.

    Attributes:
        method: `"random"` (He), `"l1"` (filters of the largest L1 norm) or `"lsq"` (layer-wise
            least squares).
        model: a student to start from instead: a bundled model's name or a checkpoint.
        images: number of crops for lsq, the normalisation of a teacher (its first 1000) and the
            whitened optimiser (its first 256).
        crop: their side, in pixels.
        decoder_images: number of them for lsq's decoders, which training changes most; their
            regressions have proportionally fewer positions.
        positions: samples of each of lsq's regressions, spread evenly over the images; at stage 5
            each takes four bytes times 1153.
        iterations: of lsq's L-BFGS per layer, at most.
        image_weight: weight of the pixels under a position in lsq's encoders, beside the teacher's
            features. At 0.05 a least-squares decoder reconstructs images 5 dB better at stage 3,
            while the fraction of relu2_1 that is unexplained grows by 0.03.
    """

    method: Initialization = "lsq"
    model: str | None = None
    images: int = 1000
    crop: int = 160
    decoder_images: int = 600
    positions: int = 100_000
    iterations: int = 60
    image_weight: float = 0.05

    @property
    def origin(self) -> str:
        """The model's name, or the method."""
        return self.model or self.method


@dataclass(frozen=True)
class DistillationConfig:
    """A whole distillation.

    Attributes:
        teacher: as for `cdjax.load_model`; the decoders of one that has some are used.
        method: the transform that the networks are for: `"wct"` or `"adain"`.
        data: the images to train on, and the seed of everything random.
        styles: the second image of every pair (AdaIN and `student_transfer` only).
        stages: which networks are made; the paper's AdaIN has one.
        strengths: of the transform at each stage, deepest first, from 0 to 1; by default those
            of `start.model`, or 1 everywhere. They are a part of the model, and `student_transfer`
            trains with them.
        transforms: their names at each stage, deepest first; by default those of `start.model`, or
            the method everywhere. Like the strengths, a part of the model.
        start: how the student is initialised.
        teacher_decoder: phase 1; skipped where the teacher has a decoder.
        student_encoder: phase 2.
        student_autoencoder: the encoder with its own decoder, after phase 2 or instead of it.
        student_decoder: phase 3.
        student_transfer: all stages together, through the transform.
        dtype: in which networks compute.
        microbatches: number of parts that each batch is cut into to save memory.
        save_every: steps between checkpoints.
        keep: number of checkpoints of a phase to keep.
        pictures_every: steps between preview pictures.

    Raises:
        ValueError: if a value is out of range, or values do not fit each other.
    """

    teacher: str = "vgg16"
    method: TransferMethod = "wct"
    data: DataConfig = field(default_factory=lambda: DataConfig("dead-leaves"))
    styles: Styles = field(default_factory=Styles)
    stages: tuple[int, ...] = (5, 4, 3, 2, 1)
    strengths: tuple[float, ...] = ()
    transforms: tuple[str, ...] = ()
    start: Start = field(default_factory=Start)
    teacher_decoder: PhaseConfig = field(default_factory=PhaseConfig)
    student_encoder: PhaseConfig = field(default_factory=PhaseConfig)
    student_autoencoder: PhaseConfig = field(default_factory=PhaseConfig)
    student_decoder: PhaseConfig = field(default_factory=PhaseConfig)
    student_transfer: PhaseConfig = field(
        default_factory=partial(PhaseConfig, weights=Weights(pixel=100.0, content=3.0, style=1.0))
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    microbatches: int = 1
    save_every: int = 500
    keep: int = 3
    pictures_every: int = 500

    def __post_init__(self) -> None:
        wrong = [stage for stage in self.stages if not 1 <= stage <= 5]
        if wrong or not self.stages or len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages must be different numbers from 1 to 5, not {self.stages}")
        for name in ("strengths", "transforms"):
            if len(getattr(self, name)) not in (0, len(self.stages)):
                raise ValueError(f"{len(self.stages)} stages need as many {name}, or none")
        check_strengths(self.strengths)
        check_transforms(self.transforms)
        if self.teacher_decoder.whitened:
            raise ValueError("the teacher's decoder cannot be trained with the whitened optimiser")
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Refuses numbers that would fail only after hours, or maximise a loss."""
        least = dict.fromkeys(("microbatches", "save_every", "keep", "pictures_every"), 1)
        least |= {f"start.{name}": 1 for name in ("images", "crop", "decoder_images", "positions")}
        least |= dict.fromkeys(("start.iterations", "start.image_weight"), 0)
        weights = (f"weights.{each.name}" for each in fields(Weights))
        numbers = ("steps", "clip", "first_layer_lr_scale", *weights)
        for phase in PHASES:
            least |= {f"{phase}.{name}": 0 for name in numbers}
            rate = self.phase(phase).learning_rate
            if not 0 < rate < math.inf:
                raise ValueError(f"{phase}.learning_rate must be above 0, not {rate}")
        for name, lowest in least.items():
            number = attrgetter(name)(self)
            if not lowest <= number < math.inf:
                raise ValueError(f"{name} must be at least {lowest:g}, not {number}")

    def phase(self, name: Phase) -> PhaseConfig:
        """The configuration of a phase."""
        return getattr(self, name)

    def task(self, phase: Phase, students: Sequence[Spec], teacher: Spec) -> TrainTask:
        """The training of networks in a phase."""
        own = self.phase(phase), self.method, self.dtype, self.microbatches
        transfer = phase == "student_transfer"
        of_stages = (self.strengths, self.transforms) if transfer else ()
        return TrainTask(phase, tuple(students), teacher, *own, *of_stages)

    @property
    def needs_teacher_decoder(self) -> bool:
        """Whether a phase trains or uses the teacher's decoder, or it is pruned for the start."""
        through = self.student_encoder.steps and self.student_encoder.collaborates(self.method)
        return bool(through or self.teacher_decoder.steps) or self.start.origin == "l1"

    @property
    def style_data(self) -> DataConfig:
        """The data of the styles, which are drawn with another seed than the contents."""
        styles = asdict(self.styles)
        del styles["contents"]
        return replace(self.data, seed=self.data.seed + 1, **styles)

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON."""
        return _as_json(self)


def _as_json(config: TrainTask | DistillationConfig) -> dict[str, Any]:
    # Tuples become lists, as in a file.
    return json.loads(json.dumps(asdict(config)))
