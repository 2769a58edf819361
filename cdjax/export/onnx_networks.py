"""The operations of the cascade as nodes of an ONNX graph; arrays are NCHW, as ONNX has them."""

import numpy as np

from cdjax.export.graph import Graph
from cdjax.model import Params
from cdjax.networks.encoder import fold_colour
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.padding import Padding

SPATIAL = (2, 3)


def lengths(graph: Graph, images: str) -> list[str]:
    """Height and width of images, each (1,) int64."""
    return [graph.add("Shape", images, start=axis, end=axis + 1) for axis in SPATIAL]


def pad(graph: Graph, images: str, stride: int) -> str:
    """Continues images by reflection at the bottom and right, as `cdjax.transfer.pixels.pad`.

    ONNX pads without repeating the border and at most by the image's own size, so rows and columns
    are gathered by their numbers instead: 0, 1, ..., n - 1, n - 1, ..., 1, 0, 0, 1, ...
    """
    zero, one, two = (graph.constant(number) for number in (0, 1, 2))
    step = graph.constant([stride])
    for axis, length in zip(SPATIAL, lengths(graph, images), strict=True):
        rounded = graph.add("Add", length, graph.constant([stride - 1]))
        positions = graph.add("Max", graph.add("Div", rounded, step), two)
        end = graph.add("Squeeze", graph.add("Mul", positions, step))
        period = graph.add("Mul", length, two)
        forth = graph.add("Mod", graph.add("Range", zero, end, one), period)
        back = graph.add("Sub", graph.add("Sub", period, one), forth)
        images = graph.add("Gather", images, graph.add("Min", forth, back), axis=axis)
    return images


def crop(graph: Graph, images: str, height: str, width: str) -> str:
    """The upper left part of images."""
    ends = graph.add("Concat", height, width, axis=0)
    return graph.add("Slice", images, graph.constant([0, 0]), ends, graph.constant([*SPATIAL]))


def encode(graph: Graph, params: Params, spec: Spec, images: str) -> str:
    """The features relu{stage}_1 of images, as `cdjax.transfer.stages.encode_stage`."""
    if spec.padding == "reflect":
        params = {**params, "conv1_1": fold_colour(params["conv0"], params["conv1_1"])}
    else:
        images = _weighted(graph, params["conv0"], images)
    return _run(graph, params, spec.encoder, spec.padding, images)


def decode(graph: Graph, params: Params, spec: Spec, features: str) -> str:
    """Images of features, as `cdjax.transfer.stages.decode_stage`."""
    return _run(graph, params, spec.decoder, spec.padding, features)


def _run(
    graph: Graph, params: Params, convs: tuple[Conv, ...], padding: Padding, features: str
) -> str:
    for conv in convs:
        if conv.upsampled:
            features = graph.add(
                "Resize",
                features,
                "",
                graph.constant(np.array([1, 1, 2, 2], np.float32)),
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        mode = "reflect" if padding == "reflect" else "constant"
        around = graph.constant([0, 0, 1, 1, 0, 0, 1, 1])
        features = graph.add("Pad", features, around, mode=mode)
        features = graph.add("Relu", _weighted(graph, params[conv.name], features))
        if conv.pooled:
            features = graph.add("MaxPool", features, kernel_shape=[2, 2], strides=[2, 2])
    return features


def _weighted(graph: Graph, layer: Params, features: str) -> str:
    """A convolution with its bias, without padding."""
    kernel = np.asarray(layer["kernel"], np.float32).transpose(3, 2, 0, 1)
    bias = graph.constant(np.asarray(layer["bias"], np.float32))
    return graph.add("Conv", features, graph.constant(kernel), bias)
