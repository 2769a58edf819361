"""What a distillation does, as data: the teacher, the images, and how each phase is trained."""

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Literal

from cdjax.data import DataConfig
from cdjax.initialization import Initialization
from cdjax.task import PAPER_WEIGHTS, PHASES, Phase, Transfer, Weights


@dataclass(frozen=True)
class Styles:
    """Where the styles come from that AdaIN is trained with; crops and batches are the contents'.

    Attributes:
        source: as `DataConfig.source`.
        split: likewise.
        data_dir: likewise.
    """

    source: str = "dead-leaves"
    split: str = "train"
    data_dir: str | None = None


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
        whitened: whether Adam works in whitened coordinates (see `cdjax.preconditioning`); not
            for the teacher's decoder.
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
        teacher: as for `cdjax.teachers.load_teacher`; one with decoders brings them along.
        method: the transform that the networks are for: `"wct"` or `"adain"`.
        data: the images to train on, and the seed of all that is random.
        styles: the other half of every pair (AdaIN only).
        stages: which networks are made; AdaIN has one.
        start: how they begin.
        teacher_decoder: phase 1; left out where the teacher has a decoder.
        student_encoder: phase 2.
        student_pair: the encoder with its own decoder, after phase 2 or in its place.
        student_decoder: phase 3.
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
        return replace(self.data, seed=self.data.seed + 1, **asdict(self.styles))

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON gives it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


_PAPER_STEPS = 103_479
"""20 epochs of the 82,783 images of COCO train2014 in batches of 16."""


def _paper() -> Recipe:
    def training(phase: Phase) -> Training:
        return Training(_PAPER_STEPS, PAPER_WEIGHTS[phase])

    return Recipe(
        teacher="vgg19.pth",
        data=DataConfig("tfds:coco/2014", shorter_side=300, crop=256, batch=16, workers=8),
        start=Start("l1"),
        teacher_decoder=training("teacher_decoder"),
        student_encoder=training("student_encoder"),
        student_decoder=training("student_decoder"),
        pictures_every=2000,
    )


_PAIR = Training(
    3000,
    Weights(embedding=1.0, pixel=200.0, perceptual=0.0),
    learning_rate=0.003,
    decay=True,
    whitened=True,
)
_DECODER = Training(
    1000,
    Weights(embedding=0.0, pixel=1.0, perceptual=0.003),
    learning_rate=0.001,
    decay=True,
    whitened=True,
    judge="student",
)


def _bundled() -> Recipe:
    return Recipe(
        data=DataConfig("photographs", shorter_side=256, crop=128, batch=4),
        start=Start(images=3579, crop=176, positions=240_000, iterations=40, image_weight=0.02),
        student_pair=_PAIR,
        student_decoder=_DECODER,
    )


def _quick() -> Recipe:
    return Recipe(
        data=DataConfig("dead-leaves", crop=96, batch=4),
        # What deeper features answer to is not in dead leaves.
        stages=(3, 2, 1),
        start=Start(images=640, crop=96, decoder_images=320, positions=40_000, iterations=8),
        student_pair=replace(_PAIR, steps=120),
        student_decoder=replace(_DECODER, steps=60),
        pictures_every=60,
        save_every=60,
    )


def _adain_paper() -> Recipe:
    training = Training(_PAPER_STEPS, Weights())
    return replace(
        _paper(),
        method="adain",
        styles=Styles("wikiart"),
        stages=(4,),
        teacher_decoder=training,
        student_encoder=training,
        student_decoder=training,
    )


_TRANSFER = Weights(embedding=1.0, content=1.0, style=10.0)


def _adain_bundled() -> Recipe:
    return replace(
        _bundled(),
        method="adain",
        styles=Styles("paintings"),
        stages=(4,),
        start=replace(_bundled().start, images=1200, positions=120_000, decoder_images=300),
        student_pair=Training(
            1500, _TRANSFER, learning_rate=0.003, decay=True, whitened=True, first_rate=0.1
        ),
        student_decoder=Training(),
        save_every=100,
        pictures_every=100,
    )


def _adain_quick() -> Recipe:
    return replace(
        _quick(),
        method="adain",
        stages=(3,),
        student_pair=Training(
            120, _TRANSFER, learning_rate=0.002, decay=True, whitened=True, first_rate=0.1
        ),
        student_decoder=Training(),
    )


@dataclass(frozen=True)
class Preset:
    """A recipe by name, and a line that says what it is."""

    about: str
    recipe: Recipe = field(repr=False)


PRESETS: dict[Transfer, dict[str, Preset]] = {
    "wct": {
        "quick": Preset(
            "a small, real run of a few minutes; no photographs, no downloads", _quick()
        ),
        "paper": Preset("the paper's recipe: COCO, 256-pixel crops, 20 epochs a phase", _paper()),
        "bundled": Preset("how the model in the package was made, of VGG-16", _bundled()),
    },
    "adain": {
        "quick": Preset("the same with AdaIN, dead leaves as styles too", _adain_quick()),
        "paper": Preset("the paper's recipe: COCO, paintings of WikiArt", _adain_paper()),
        "bundled": Preset("how the AdaIN model in the package was made", _adain_bundled()),
    },
}
