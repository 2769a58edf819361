"""Writes ONNX graphs node by node, with the package `onnx`."""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
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
        self._numbers = count()
        self._constants: dict[tuple[Any, ...], Any] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output; returns the name of the output."""
        return self._node(operator, inputs, 1, **attributes)[0]

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Parts of equal length along an axis."""
        return self._node("Split", [value], count, axis=axis, num_outputs=count)

    def loop(self, most: int | str, step: Callable[..., Sequence[str]], *values: str) -> list[str]:
        """Repeats a step; returns its last results.

        Args:
            most: how often, at most; a string is the name of an int64 number.
            step: adds the nodes of one step. It takes the number of the step, from 0, and the
                values, and returns whether to go on, and the next values. It may use everything
                that was added before.
            values: the first values.
        """
        from onnx import TensorProto, helper

        outer, self._nodes = self._nodes, []
        index, before, *names = (f"value_{next(self._numbers)}" for _ in range(len(values) + 2))
        results = step(index, *names)
        # The types of the others follow from the first values.
        inputs = [
            helper.make_tensor_value_info(index, TensorProto.INT64, []),
            helper.make_tensor_value_info(before, TensorProto.BOOL, []),
            *map(helper.make_empty_tensor_value_info, names),
        ]
        outputs = list(map(helper.make_empty_tensor_value_info, results))
        body = helper.make_graph(self._nodes, "step", inputs, outputs)
        self._nodes = outer
        trips = most if isinstance(most, str) else self.constant(most)
        return self._node("Loop", [trips, "", *values], len(values), body=body)

    def _node(
        self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        from onnx import helper

        names = [f"{operator}_{next(self._numbers)}" for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def constant(self, value: NDArray[Any] | Sequence[int] | float) -> str:
        """The name of a constant: an array, int64 numbers or one float32; equal ones are shared."""
        from onnx import numpy_helper

        if isinstance(value, np.ndarray):
            array = np.asarray(value, order="C")
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
