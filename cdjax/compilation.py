"""`jax.jit` with the compiler's settings that training and optimisation run fastest by.

Not for stylisation: Eigen's sums depend on an image's size, and windows would not equal the whole
image to the last bit.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

_P = ParamSpec("_P")
_R = TypeVar("_R")

OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""On a CPU, XLA leaves convolutions and products to YNNPACK or to Eigen; at the widths of these
networks Eigen is the faster one. GPUs have no use for it."""


def compiled(function: Callable[_P, _R], **options: Any) -> Callable[_P, _R]:
    """`jax.jit` of a function, with `OPTIONS`; `options` are those of `jax.jit`.

    Inside other transformations, whose options count, it is the same without them.
    """
    outermost = jax.jit(function, compiler_options=OPTIONS, **options)
    inside = jax.jit(function, **options)

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # Whatever is put on a device while a function is traced is traced, too.
        leaves = [jax.device_put(np.float32(0)), *jax.tree.leaves((args, kwargs))]
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (inside if traced else outermost)(*args, **kwargs)

    return call
