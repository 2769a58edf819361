"""`jax.jit` with the compiler's settings that suit a function: the fastest, or the exact ones."""

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
"""For training and optimisation. On a CPU, XLA leaves convolutions and products to YNNPACK or to
Eigen; at the widths of these networks Eigen is the faster one. GPUs have no use for it."""

EXACT: Settings = MappingProxyType({"xla_cpu_enable_platform_dependent_math": False})
"""For stylisation, whose windows shall equal the whole image to the last bit: on a CPU, YNNPACK
adds up in one order whatever the shape. (Eigen does not.) GPUs have no use for it."""


def compiled(function: Callable[_P, _R], *, settings: Settings, **options: Any) -> Callable[_P, _R]:
    """`jax.jit` of a function, with settings of the compiler; `options` are those of `jax.jit`.

    Inside other transformations, whose settings count, it is the same without them.
    """
    outermost = jax.jit(function, compiler_options=dict(settings), **options)
    inside = jax.jit(function, **options)

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # Whatever is put on a device while a function is traced is traced, too.
        leaves = [jax.device_put(np.float32(0)), *jax.tree.leaves((args, kwargs))]
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (inside if traced else outermost)(*args, **kwargs)

    return call
