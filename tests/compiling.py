"""How tests compile: quickly, or as users do."""

import os

_QUICK = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_multi_thread_eigen=false",
)
_FLAGS = " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in _QUICK)

AS_TESTS = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": " ".join([_FLAGS, *_QUICK]).strip(),
}
"""Without LLVM's optimiser and XLA's newer code generator, with programs compiled in one piece and
run by one thread, tests take less than half the processor time: most compile much and compute
little, and their processes keep the cores busy."""

AS_USERS = os.environ | {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
    "XLA_FLAGS": _FLAGS,
    "JAX_PLATFORMS": "cpu",
}
"""The environment of a process that computes enough, or must show what users get."""
