"""Writes ONNX graphs node by node, with the package `onnx`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 18
"""Version of ONNX's operators. Its reductions take their axes as an input."""
_IR_VERSION = 8
"""The first version of the file format that has this opset: old runtimes refuse newer ones."""


class Graph:
    """A graph that grows by one node at a time. A value is named by a string."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[tuple[Any, ...], Any] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output; returns the name of the output."""
        from onnx import helper

        output = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[Any] | Sequence[int] | float) -> str:
        """The name of a constant: an array, int64 numbers or one float32; equal ones are shared."""
        from onnx import numpy_helper

        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value)
        else:
            array = np.asarray(value, np.float32 if isinstance(value, float) else np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return str(self._constants[key].name)

    def to_model(
        self,
        inputs: Mapping[str, Sequence[str | int]],
        outputs: Mapping[str, tuple[str, Sequence[str | int]]],
        *,
        name: str,
        about: str,
        metadata: Mapping[str, str],
    ) -> bytes:
        """The file of the graph, checked by the package `onnx`.

        Args:
            inputs: shape of every input, float32; a string is the name of a length that varies.
            outputs: value and shape of every output, float32.
            name: of the graph.
            about: what it computes.
            metadata: further texts by their keys.

        Raises:
            onnx.checker.ValidationError: if the graph is not valid.
        """
        import onnx
        from onnx import TensorProto, helper

        nodes = list(self._nodes)
        for output, (value, _) in outputs.items():
            nodes.append(helper.make_node("Identity", [value], [output]))
        described = {**inputs, **{output: shape for output, (_, shape) in outputs.items()}}
        infos = {
            key: helper.make_tensor_value_info(key, TensorProto.FLOAT, list(shape))
            for key, shape in described.items()
        }
        graph = helper.make_graph(
            nodes,
            name,
            [infos[key] for key in inputs],
            [infos[key] for key in outputs],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="cdjax",
            doc_string=about,
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())
