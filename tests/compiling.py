"""How tests compile: quickly, or as users do."""

import os

_OLDER_GENERATOR = "--xla_cpu_use_fusion_emitters=false"
_FLAGS = os.environ.get("XLA_FLAGS", "").replace(_OLDER_GENERATOR, "").strip()

AS_TESTS = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": f"{_FLAGS} {_OLDER_GENERATOR}",
}
"""Without LLVM's optimiser and XLA's newer code generator, a program is compiled in half the time.
Most tests compile much and compute little."""

AS_USERS = os.environ | {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
    "XLA_FLAGS": _FLAGS,
    "JAX_PLATFORMS": "cpu",
}
"""The environment of a process that computes enough, or must show what users get."""
