"""The layers of a model as rows of a table: names, shapes and sizes."""

from dataclasses import dataclass

from cdjax.model import Model


@dataclass(frozen=True)
class Row:
    """One layer of a model.

    Attributes:
        stage: 1 to 5.
        network: `"encoder"`, `"decoder"` or `"embedding"`.
        layer: such as `"conv1_1"`; of an embedding, the name of its tap.
        shape: shape of the kernel.
        parameters: number of parameters of kernel and bias together.
    """

    stage: int
    network: str
    layer: str
    shape: tuple[int, ...]
    parameters: int


def layer_rows(model: Model) -> list[Row]:
    """One `Row` for every layer of a model, in the order of computation."""
    rows = []
    for spec in model.config.specs:
        order = {
            "encoder": ["conv0", *(conv.name for conv in spec.encoder)],
            "decoder": [conv.name for conv in spec.decoder],
            "embedding": [tap for tap, _ in spec.taps],
        }
        networks = model.params[f"stage{spec.stage}"]
        for network, layers in order.items():
            for layer in layers if network in networks else ():
                kernel, bias = (networks[network][layer][part] for part in ("kernel", "bias"))
                rows.append(Row(spec.stage, network, layer, kernel.shape, kernel.size + bias.size))
    return rows
