"""What a distillation does, as data: `Task` for one train step, `Recipe` for the whole."""

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Literal

from cdjax.data.loader import DataConfig
from cdjax.distillation.initialization.initialize import Initialization
from cdjax.networks.spec import Spec

Transfer = Literal["wct", "adain"]
Phase = Literal[
    "teacher_decoder", "student_encoder", "student_pair", "student_decoder", "student_transfer"
]
STAGE_PHASES: tuple[Phase, ...] = (
    "teacher_decoder",
    "student_encoder",
    "student_pair",
    "student_decoder",
)
"""The phases of each stage, in the order in which they run."""
PHASES: tuple[Phase, ...] = (*STAGE_PHASES, "student_transfer")


@dataclass(frozen=True)
class Weights:
    """Weights of a phase's losses; one that a phase does not have is ignored.

    Attributes:
        embedding: of the linear embedding loss (student encoder only).
        pixel: of the mean squared error of pixels.
        perceptual: of the mean squared errors of taps, the teacher's unless the task says
            otherwise.
        content: of AdaIN's content loss, which stands in place of pixel and perceptual.
        style: of AdaIN's style loss.
        shallow: what the embedding losses of the taps before the deepest count beside its own
            (paper: 1). A stage hands on its deepest tap alone; a student that has learnt the
            others may give them up for it.
    """

    embedding: float = 10.0
    pixel: float = 1.0
    perceptual: float = 1.0
    content: float = 1.0
    style: float = 10.0
    shallow: float = 1.0


PAPER_WEIGHTS: dict[Phase, Weights] = {
    "teacher_decoder": Weights(),
    "student_encoder": Weights(),
    "student_decoder": Weights(perceptual=0.01),
    "student_pair": Weights(),
    "student_transfer": Weights(pixel=100.0, content=3.0, style=1.0),
}


@dataclass(frozen=True)
class Task:
    """What a train step does: hashable, static under `jax.jit`.

    Attributes:
        phase: which of the three.
        student: the student's spec.
        teacher: the teacher's spec of the same stage.
        weights: of the losses.
        method: the transform that the networks are for: `"wct"`, whose collaboration is the
            reconstruction of images, or `"adain"`, whose is style transfer itself.
        learning_rate: Adam's.
        decay_steps: over how many steps the learning rate falls to 0, along a cosine, after it
            has risen over the first twentieth of them; 0: it stays what it is.
        whitened: whether Adam works in the coordinates of `cdjax.distillation.whitened_adam`; the
            learning rate is then relative to each layer's size, 0.003 to 0.03, and `"factors"` must
            be among the frozen.
        clip: gradients of a larger norm are scaled down to it; 0: none is. One that is many times
            as large as those before it takes Adam many times as far, and a run may not come back.
        first_rate: what the steps of the student encoder's conv1_1 are multiplied by. After `lsq`
            it has little to gain, and deeper features, which are many, would bend it to theirs.
        rectified: whether a ReLU follows the embeddings. The paper's are linear; the features
            they are compared with have gone through a ReLU, and one more brings them nearer.
        judge: whose taps the perceptual loss (or AdaIN's losses) of `student_decoder` compare:
            the teacher's (the paper) or those of the student's own encoder, a sixteenth of the
            work. They are not of one size as a normalised teacher's are, so each tap's perceptual
            loss is then relative to the tap's mean square.
        microbatches: into how many parts a batch is cut, their gradients averaged (gradient
            accumulation: the same step from less memory).
        dtype: `"float32"` or `"bfloat16"`, in which the networks compute; parameters, gradients
            and losses are float32 always.
        cascade: the student's stages in the order in which they run (`student_transfer` only).

    Raises:
        ValueError: if the specs are of different stages.
    """

    phase: Phase
    student: Spec
    teacher: Spec
    weights: Weights
    method: Transfer = "wct"
    learning_rate: float = 1e-4
    decay_steps: int = 0
    whitened: bool = False
    clip: float = 0.0
    first_rate: float = 1.0
    rectified: bool = False
    judge: Literal["teacher", "student"] = "teacher"
    microbatches: int = 1
    dtype: str = "float32"
    cascade: tuple[Spec, ...] = ()

    def __post_init__(self) -> None:
        if self.student.stage != self.teacher.stage:
            raise ValueError(
                f"student and teacher must be of one stage, not {self.student.stage} "
                f"and {self.teacher.stage}"
            )


@dataclass(frozen=True)
class Styles:
    """Where the styles come from that AdaIN is trained with; crops and batches are the contents'.

    Attributes:
        source: as `DataConfig.source`.
        split: likewise.
        data_dir: likewise.
        scales: as `DataConfig.scales`.
        contents: share of the styles that are drawn from the contents' source instead.
    """

    source: str = "dead-leaves"
    split: str = "train"
    data_dir: str | None = None
    scales: tuple[float, float] = (1.0, 1.0)
    contents: float = 0.0


@dataclass(frozen=True)
class Start:
    """How parameters begin.

    Attributes:
        method: of the student's encoders and decoders.
        model: a student to go on from in its place: a bundled model's name or a checkpoint.
        images: crops that lsq, the normalisation of a teacher (its first 1000) and the whitened
            optimiser (its first 256) look at.
        crop: their side, in pixels.
        decoder_images: how many of them lsq's decoders are made from, which training soon leaves
            behind; they use positions in proportion.
        positions: rows of each of lsq's regressions.
        iterations: of lsq's descents, at most.
        image_weight: what pixels count in lsq's encoders, beside the teacher's features.
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
        """Where the student comes from, in a word."""
        return self.model or self.method


@dataclass(frozen=True)
class Training:
    """How a phase is trained; with 0 steps it is left out.

    Attributes:
        steps: optimisation steps, of one batch each.
        weights: of the losses; those of weight 0 are not computed.
        learning_rate: Adam's.
        decay: whether the learning rate rises, then falls to 0 along a cosine.
        whitened: whether Adam works in whitened coordinates (see
            `cdjax.distillation.whitened_adam`); not for the teacher's decoder.
        clip: norm to which larger gradients are scaled down; 0: they are left alone.
        first_rate: what the steps of the student encoder's conv1_1 are multiplied by.
        rectified: whether a ReLU follows the embeddings.
        judge: whose taps the perceptual loss of student_decoder compares.
    """

    steps: int = 0
    weights: Weights = field(default_factory=Weights)
    learning_rate: float = 1e-4
    decay: bool = False
    whitened: bool = False
    clip: float = 0.0
    first_rate: float = 1.0
    rectified: bool = False
    judge: Literal["teacher", "student"] = "teacher"


@dataclass(frozen=True)
class Recipe:
    """A whole distillation.

    Attributes:
        teacher: as for `cdjax.load_model`; one with decoders brings them
            along.
        method: the transform that the networks are for: `"wct"` or `"adain"`.
        data: the images to train on, and the seed of all that is random.
        styles: the other half of every pair (AdaIN only).
        stages: which networks are made; AdaIN has one.
        start: how they begin.
        teacher_decoder: phase 1; left out where the teacher has a decoder.
        student_encoder: phase 2.
        student_pair: the encoder with its own decoder, after phase 2 or in its place.
        student_decoder: phase 3.
        student_transfer: all stages together, through the transform.
        dtype: in which networks compute.
        microbatches: parts that each batch is cut into to save memory.
        save_every: steps between checkpoints.
        keep: checkpoints of a phase that stay.
        pictures_every: steps between pictures.
    """

    teacher: str = "vgg16"
    method: Transfer = "wct"
    data: DataConfig = field(default_factory=lambda: DataConfig("dead-leaves"))
    styles: Styles = field(default_factory=Styles)
    stages: tuple[int, ...] = (5, 4, 3, 2, 1)
    start: Start = field(default_factory=Start)
    teacher_decoder: Training = field(default_factory=Training)
    student_encoder: Training = field(default_factory=Training)
    student_pair: Training = field(default_factory=Training)
    student_decoder: Training = field(default_factory=Training)
    student_transfer: Training = field(default_factory=Training)
    dtype: Literal["float32", "bfloat16"] = "float32"
    microbatches: int = 1
    save_every: int = 500
    keep: int = 3
    pictures_every: int = 500

    def __post_init__(self) -> None:
        wrong = [stage for stage in self.stages if not 1 <= stage <= 5]
        if wrong or not self.stages or len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages must be different numbers from 1 to 5, not {self.stages}")
        if self.method == "adain" and len(self.stages) > 1:
            raise ValueError(f"adain has one stage, the paper's is 4, not {self.stages}")
        if self.teacher_decoder.whitened:
            raise ValueError("the teacher's decoder cannot be trained with the whitened optimiser")
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Refuses what would only fail after hours, or climb the losses."""
        least = {"microbatches": 1.0, "save_every": 1.0, "keep": 1.0, "pictures_every": 1.0}
        least |= {
            f"start.{name}": 1.0 for name in ("images", "crop", "decoder_images", "positions")
        }
        least |= {"start.iterations": 0.0, "start.image_weight": 0.0}
        for phase in PHASES:
            least |= {f"{phase}.{name}": 0.0 for name in ("steps", "clip", "first_rate")}
            least |= {f"{phase}.weights.{each.name}": 0.0 for each in fields(Weights)}
            rate = self.phase(phase).learning_rate
            if not 0 < rate < math.inf:
                raise ValueError(f"{phase}.learning_rate must be above 0, not {rate}")
        for name, lowest in least.items():
            number = attrgetter(name)(self)
            if not lowest <= number < math.inf:
                raise ValueError(f"{name} must be at least {lowest:g}, not {number}")

    def phase(self, name: Phase) -> Training:
        """How a phase is trained."""
        training: Training = getattr(self, name)
        return training

    def task(self, phase: Phase, student: Spec, teacher: Spec) -> Task:
        """What a train step of a phase does, for networks of one stage."""
        training = self.phase(phase)
        return Task(
            phase,
            student=student,
            teacher=teacher,
            weights=training.weights,
            method=self.method,
            learning_rate=training.learning_rate,
            decay_steps=training.steps if training.decay else 0,
            whitened=training.whitened,
            clip=training.clip,
            first_rate=training.first_rate,
            rectified=training.rectified,
            judge=training.judge,
            microbatches=self.microbatches,
            dtype=self.dtype,
        )

    @property
    def needs_teacher_decoder(self) -> bool:
        """Whether it is to be trained, or anything to be trained through it or pruned from it."""
        weights = self.student_encoder.weights
        names = ("content", "style") if self.method == "adain" else ("pixel", "perceptual")
        through = self.student_encoder.steps and any(getattr(weights, name) for name in names)
        return bool(through or self.teacher_decoder.steps) or self.start.origin == "l1"

    @property
    def style_data(self) -> DataConfig:
        """The styles as the contents' equals, drawn by another seed."""
        styles = asdict(self.styles)
        del styles["contents"]
        return replace(self.data, seed=self.data.seed + 1, **styles)

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON gives it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
