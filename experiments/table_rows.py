"""The rows of the paper's table: every compressed model and the original that it stands for."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cdjax import Model, Spec
from cdjax.evaluation import FLOPS_SIZE, EvaluationError, measured_size, with_stages
from cdjax.spec import TEACHER_WIDTHS
from experiments.benchmark import random_model
from experiments.table_measurements import Taken

TableMethod = Literal["wct", "adain", "gatys"]


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        name: of the model.
        method: `"wct"`, `"adain"` or `"gatys"`.
        specs: of its networks.
        trained: whether its weights are; random ones take the same time and memory.
        parameters: of its networks, embeddings left out (of the encoder alone for Gatys).
        gflops: 1e9 operations for content and style of 3000x3000 pixels, two a multiply-accumulate
            of the 3x3 convolutions (Gatys: of one step).
        stored_bytes: of its files; None where it has none.
        taken: what was measured; None if nothing was.
    """

    name: str
    method: TableMethod
    specs: tuple[Spec, ...]
    trained: bool
    parameters: int
    gflops: float
    stored_bytes: int | None = None
    taken: Taken | None = None

    @property
    def float32_bytes(self) -> int:
        """Of the parameters."""
        return 4 * self.parameters


@dataclass(frozen=True)
class Pair:
    """A compressed system and its original: the same method and stages at the teacher's widths."""

    original: Row
    compressed: Row


@dataclass(frozen=True)
class Sorted:
    """Models by what they are here for.

    Attributes:
        compressed: to be measured, by name.
        originals: of teacher widths, by name.
        left_out: by name, with the reason.
    """

    compressed: dict[str, Model]
    originals: dict[str, Model]
    left_out: dict[str, str]


def original_spec(spec: Spec) -> Spec:
    """A stage's spec at the widths of VGG."""
    return dataclasses.replace(spec, widths=TEACHER_WIDTHS[: spec.stage])


def sort_models(models: Mapping[str, Model]) -> Sorted:
    """Which models are students, which are originals, and which are of no use for the table."""
    found = Sorted({}, {}, {})
    for name, model in models.items():
        if model.config.method == "encoder":
            found.left_out[name] = "a lone encoder, which cannot stylise"
        elif all(spec == original_spec(spec) for spec in model.config.specs):
            found.originals[name] = model
        else:
            found.compressed[name] = model
    return found


def original_of(model: Model, originals: Mapping[str, Model]) -> tuple[str, Model]:
    """The original of a model and its name: one of those given, cut to the stages, or random.

    Args:
        model: compressed.
        originals: by name; the first one of the method that has every stage is taken.

    Returns:
        The name (empty if its weights are random) and the model.
    """
    specs = tuple(original_spec(spec) for spec in model.config.specs)
    method = model.config.method
    for name, original in originals.items():
        if original.config.method == method and set(specs) <= set(original.config.specs):
            return name, with_stages(original, [spec.stage for spec in specs])
    random = random_model(specs)
    config = dataclasses.replace(random.config, method=method)
    return "", dataclasses.replace(random, config=config)


def model_row(
    name: str, model: Model, *, trained: bool, stored: int | None, taken: Taken | None
) -> Row:
    """The row of a model that stylises in one pass.

    Raises:
        EvaluationError: if it has no decoders.
    """
    size, method = measured_size(model), model.config.method
    if method == "encoder" or size.gflops is None:
        raise EvaluationError(f"{name}: a lone encoder, which cannot stylise")
    specs = model.config.specs
    return Row(name, method, specs, trained, size.parameters, size.gflops, stored, taken)


def original_name(specs: Sequence[Spec]) -> str:
    """What an original is called whose weights nobody trained."""
    depths = {spec.depths for spec in specs}
    layers = {3 + sum(depth) for depth in depths} if len(depths) == 1 else set()
    return f"VGG-{layers.pop()}" if layers in ({16}, {19}) else "VGG's widths"


def flops_text(method: TableMethod) -> str:
    """What the column of operations counts."""
    what = "a step" if method == "gatys" else "a stylisation"
    return f"GFLOP of {what} at {FLOPS_SIZE}x{FLOPS_SIZE}"
