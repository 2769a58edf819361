"""Compiled programs are kept on disk, so that the next process need not compile them again."""

import glob
import os
import re
from contextlib import suppress

from cdjax.io.cache import cache_folder


def use_compilation_cache() -> None:
    """Has JAX keep compiled programs in a folder.

    The folder is `xla` in CDJAX_CACHE, or in `cdjax` in the user's cache folder, unless JAX is
    configured with another one (JAX_COMPILATION_CACHE_DIR). If it cannot be written, programs are
    compiled in every process.
    """
    import jax

    setting = "jax_compilation_cache_dir"
    if not getattr(jax.config, setting):
        try:
            folder = cache_folder() / "xla"
            folder.mkdir(parents=True, exist_ok=True)
            # JAX would neither read nor replace an empty entry, which a power cut leaves behind.
            for entry in folder.glob("*-cache"):
                if entry.stat().st_size == 0:
                    entry.unlink(missing_ok=True)
        except OSError:
            return
        if not os.access(folder, os.W_OK | os.X_OK):
            return
        jax.config.update(setting, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def remove_damaged_entries(warning: str) -> None:
    """Removes what JAX warns that it cannot read, because it replaces no entry that exists.

    Only entries of cdjax's own folder are removed, such as those that a full disk cut off.
    """
    found = re.match(r"Error reading \D*cache entry for '([^']+)': (\w+)", warning)
    if found is None or found[2] in ("FileNotFoundError", "PermissionError"):
        return
    with suppress(OSError):
        for entry in (cache_folder() / "xla").glob(f"{glob.escape(found[1])}-*-cache"):
            entry.unlink()
