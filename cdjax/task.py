"""What a phase of the training does, as data: the networks, the losses' weights, the optimiser."""

from dataclasses import dataclass
from typing import Literal

from cdjax.spec import Spec

Transfer = Literal["wct", "adain"]
Phase = Literal["teacher_decoder", "student_encoder", "student_decoder", "student_pair"]
PHASES: tuple[Phase, ...] = (
    "teacher_decoder",
    "student_encoder",
    "student_decoder",
    "student_pair",
)


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
        whitened: whether Adam works in the coordinates of `cdjax.preconditioning`; the learning
            rate is then relative to each layer's size, 0.003 to 0.03, and `"factors"` must be
            among the frozen.
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

    def __post_init__(self) -> None:
        if self.student.stage != self.teacher.stage:
            raise ValueError(
                f"student and teacher must be of one stage, not {self.student.stage} "
                f"and {self.teacher.stage}"
            )
