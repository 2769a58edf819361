"""A model -> an ONNX file that stylises pictures of any size."""

import json

from cdjax.checkpoints.store import config_to_json
from cdjax.export import onnx_networks as networks
from cdjax.export.graph import Graph
from cdjax.export.onnx_transforms import TRANSFORMS
from cdjax.model import Model
from cdjax.transfer.transforms import with_transform

TOLERANCE = 1e-3
"""The largest difference between a pixel, in [0, 1], of onnxruntime on a CPU and of cdjax by AdaIN.
WCT and OT enlarge rounding errors: theirs is as small in most photographs, but may be larger."""

_ABOUT = """\
Style transfer. Inputs: content (N, H, W, 3) and style (1 or N, h, w, 3), float32, RGB in [0, 1], \
of any size from 1 pixel; alpha, a float32 number, the strength of the style. Output: result, \
float32 in [0, 1], of the content's shape."""


def to_onnx(model: Model, *, transform: str | None = None) -> bytes:
    """The file of a graph that computes `cdjax.stylize`.

    Its inputs are `content` (N, H, W, 3) and `style` (1 or N, h, w, 3), float32, RGB in [0, 1], and
    `alpha`, a float32 scalar; its output `result` is float32 in [0, 1], of the content's shape. All
    lengths but the last may differ from call to call. For how far pixels differ from those of
    cdjax, see `TOLERANCE`.

    Args:
        model: any model that stylises.
        transform: as for `cdjax.stylize`; by default the model's own.

    Raises:
        ValueError: if the model cannot stylise or there is no such transform.
    """
    model = with_transform(model, transform)
    graph, specs = Graph(), model.config.specs
    stride = max(spec.stride for spec in specs)
    content, style = (
        graph.add("Transpose", name, perm=[0, 3, 1, 2]) for name in ("content", "style")
    )
    height, width = networks.lengths(graph, content)
    images, style = (networks.pad(graph, each, stride) for each in (content, style))
    for spec in specs:
        params = model.params[f"stage{spec.stage}"]
        strength = graph.constant(float(model.config.strength_of(spec.stage)))
        share = graph.add("Min", graph.add("Mul", "alpha", strength), graph.constant(1.0))
        features, of_style = (
            networks.encode(graph, params["encoder"], spec, each) for each in (images, style)
        )
        channels = spec.taps[-1][1]
        move = TRANSFORMS[model.config.transform_of(spec.stage)]
        features = move(graph, features, of_style, share, channels)
        images = networks.decode(graph, params["decoder"], spec, features)
    images = networks.crop(graph, images, height, width)
    images = graph.add("Clip", images, graph.constant(0.0), graph.constant(1.0))
    result = graph.add("Transpose", images, perm=[0, 2, 3, 1])
    shape = ("batch", "height", "width", 3)
    return graph.to_model(
        {"content": shape, "style": ("styles", "style_height", "style_width", 3), "alpha": ()},
        {"result": (result, shape)},
        name="stylize",
        about=_ABOUT,
        metadata={"cdjax": json.dumps(config_to_json(model.config, embeddings=()))},
    )
