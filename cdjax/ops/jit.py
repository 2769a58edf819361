"""`jax.jit` with compiler settings: the fastest, or those that give exact results."""

from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

_P = ParamSpec("_P")
_R = TypeVar("_R")

Settings = Mapping[str, str | bool]

FAST: Settings = MappingProxyType({"xla_cpu_experimental_ynn_fusion_type": ""})
"""For training and optimisation. On a CPU, XLA runs convolutions and products with YNNPACK or
Eigen; at the widths of these networks Eigen is faster. No effect on GPUs."""

EXACT: Settings = MappingProxyType({"xla_cpu_enable_platform_dependent_math": False})
"""For stylisation, whose windows must equal the whole image bit for bit: on a CPU, YNNPACK sums in
the same order for every shape, Eigen does not. No effect on GPUs."""


def compiled(function: Callable[_P, _R], *, settings: Settings, **options: Any) -> Callable[_P, _R]:
    """`jax.jit` with its options and with settings of the compiler, `FAST` or `EXACT`.

    Inside another transformation such as `jax.jit` or `jax.grad`, whose own settings apply, the
    function is compiled without them.
    """
    outermost = jax.jit(function, compiler_options=dict(settings), **options)
    inside = jax.jit(function, **options)

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # While a function is traced, an array that is put on a device is a tracer too.
        leaves = [jax.device_put(np.float32(0)), *jax.tree.leaves((args, kwargs))]
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (inside if traced else outermost)(*args, **kwargs)

    return call
