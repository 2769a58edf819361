"""Compiled programs are kept on disk, so that the next process need not compile them again."""

import os


def use_compilation_cache() -> None:
    """Has JAX keep compiled programs in a folder.

    The folder is `xla` in CDJAX_CACHE, or in `cdjax` in the user's cache folder, unless JAX is
    configured with another one (JAX_COMPILATION_CACHE_DIR). If it cannot be written, programs are
    compiled in every process.
    """
    import jax

    from cdjax.io.cache import cache_folder

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
