"""`jax.jit` with compiler settings: the fastest, or those that give exact results."""

from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

_P = ParamSpec("_P")
_R = TypeVar("_R")

Settings = Mapping[str, str | bool | int]

FAST: Settings = MappingProxyType({"xla_cpu_experimental_ynn_fusion_type": ""})
"""For training and optimisation. On a CPU, XLA runs convolutions and products with YNNPACK or
Eigen; at the widths of these networks Eigen is faster. No effect on GPUs."""

EXACT: Settings = MappingProxyType({"xla_cpu_enable_platform_dependent_math": False})
"""For stylisation, whose windows must equal the whole image bit for bit: on a CPU, YNNPACK sums in
the same order for every shape, Eigen does not. No effect on GPUs."""

EXACT_SOON: Settings = MappingProxyType(
    {
        **EXACT,
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_parallel_codegen_split_count": 1,
    }
)
"""As `EXACT`, for small programs: compiled in about half the time."""

EXACT_SOONEST: Settings = MappingProxyType({**EXACT_SOON, "xla_backend_optimization_level": 1})
"""As `EXACT`, for programs that spend their time in convolutions and products, which XLA does not
compile: compiled in a quarter of the time, while what it compiles itself is slower."""


def compiled(function: Callable[_P, _R], *, settings: Settings, **options: Any) -> Callable[_P, _R]:
    """`jax.jit` with its options and with settings of the compiler, `FAST` or `EXACT`.

    Inside another transformation such as `jax.jit` or `jax.grad`, whose own settings apply, the
    function is compiled without them.
    """
    outermost = jax.jit(function, compiler_options=dict(settings), **options)
    inside = jax.jit(function, **options)

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return (inside if is_traced(args, kwargs) else outermost)(*args, **kwargs)

    return call


def is_traced(*arguments: Any) -> bool:
    """Whether any of the arguments is traced, or a function around the caller."""
    # While a function is traced, an array that is put on a device is a tracer too.
    leaves = [jax.device_put(np.float32(0)), *jax.tree.leaves(arguments)]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def runs_on_cpu(*arguments: Any) -> bool:
    """Whether a function of these arguments, none of which is traced, runs on one CPU device."""
    arrays = [jax.device_put(np.float32(0)), *jax.tree.leaves(arguments)]
    devices = [array.devices() for array in arrays if isinstance(array, jax.Array)]
    return all(len(some) == 1 and min(some).platform == "cpu" for some in devices)
