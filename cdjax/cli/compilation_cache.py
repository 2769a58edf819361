"""Compiled programs are kept on disk, so that the next process need not compile them again."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

from cdjax.io.program_cache import ProgramCache, programs_folder

_CPUINFO = Path("/proc/cpuinfo")


def use_compilation_cache() -> None:
    """Has JAX keep compiled programs in a folder.

    The folder is `xla` in CDJAX_CACHE, or in `cdjax` in the user's cache folder, and its size is
    bounded. If JAX is configured with another one (JAX_COMPILATION_CACHE_DIR), JAX alone reads and
    writes there. If no folder can be made, programs are compiled in every process.
    """
    import jax

    setting = "jax_compilation_cache_dir"
    if not getattr(jax.config, setting):
        try:
            root, built_for = programs_folder(), _built_for()
            (root / built_for).mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update(setting, str(root / built_for))
        _have_jax_use(ProgramCache(root, built_for))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _built_for() -> str:
    """What machine code is good for: the compiler that made it and a processor's instructions.

    JAX's keys name the compiler too, but a home folder may be shared by different machines.
    """
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    fields = (line.partition(":") for line in lines)  # "flags" on x86, "Features" on Arm.
    found = next((text for name, _, text in fields if name.strip() in ("flags", "Features")), "")
    able = " ".join(sorted(found.split())) or platform.processor()
    digest = hashlib.sha256(able.encode()).hexdigest()[:12]
    return f"{version('jaxlib')}-{platform.machine()}-{digest}"


def _have_jax_use(cache: ProgramCache) -> None:
    """Puts our cache in the place of JAX's own, for which JAX has no public function.

    JAX writes its entries in place, so that a process that is killed leaves half of one, does not
    check them, replaces none, and bounds their size only under a lock. A JAX that keeps its cache
    elsewhere would use its own in the same folder.
    """
    try:
        from jax._src import compilation_cache
    except ImportError:
        return
    compilation_cache._cache = cache  # type: ignore[assignment]
    compilation_cache._cache_initialized = True
