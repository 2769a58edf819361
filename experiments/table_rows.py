"""The rows of the paper's table: every compressed model and the original that it stands for."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cdjax import Model, Spec
from cdjax.evaluation.compare import FLOPS_SIZE, measured_size, with_stages
from cdjax.networks.spec import TEACHER_WIDTHS
from experiments.benchmark import random_model
from experiments.table_measurements import Taken

TableMethod = Literal["wct", "adain", "gatys"]
METHODS: tuple[TableMethod, ...] = get_args(TableMethod)


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
            of the 3x3 convolutions. Of Gatys, one step: the encoder there and back.
        stored_bytes: of its files; None where it has none of its own.
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


def gatys_model(model: Model) -> Model | None:
    """The encoder that an optimisation needs of a model; None if it ends before relu5_1."""
    spec = model.config.specs[0]
    if spec.stage < 5:
        return None
    config = dataclasses.replace(model.config, method="encoder", specs=(spec,))
    stage = f"stage{spec.stage}"
    return Model({stage: {"encoder": model.params[stage]["encoder"]}}, config)


def row_of(
    name: str, model: Model, *, trained: bool, stored: int | None, taken: Taken | None
) -> Row:
    """The row of a model; a lone encoder's is that of an optimisation with it (Gatys)."""
    size, method, specs = measured_size(model), model.config.method, model.config.specs
    if method != "encoder":
        assert size.gflops is not None
        return Row(name, method, specs, trained, size.parameters, size.gflops, stored, taken)
    # The loss and its gradient by the image alone, which costs what the loss does.
    gflops = 2 * 2 * specs[0].encoder_macs * FLOPS_SIZE**2 / 1e9
    return Row(name, "gatys", specs, trained, size.parameters, gflops, None, taken)


def original_name(specs: Sequence[Spec]) -> str:
    """What an original is called whose weights nobody trained."""
    depths = {spec.depths for spec in specs}
    layers = {3 + sum(depth) for depth in depths} if len(depths) == 1 else set()
    return f"VGG-{layers.pop()}" if layers in ({16}, {19}) else "VGG's widths"
