"""Starting JAX on the devices of this machine."""

import logging

from cdjax.errors import UsageError, first_line


def start_backend() -> None:
    """Starts the backend that JAX computes with.

    JAX would start it with the first array, wherever that is made, and report a failure by a stack
    trace in its log.

    Raises:
        UsageError: if it does not start, such as CUDA on a machine without a GPU.
    """
    import jax

    log, records = logging.getLogger("jax._src.xla_bridge"), list[logging.LogRecord]()

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    log.addFilter(keep)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: no plugin for a platform.
        wanted = getattr(jax.config, "jax_platforms", None) or ""
        variable = f"JAX_PLATFORMS={wanted}" if wanted else "JAX"
        reason = (
            first_line(error).partition(" (set JAX_PLATFORMS")[0] if str(error) else "not found"
        )
        raise UsageError(
            f"{variable}: this backend does not start on this machine ({reason}); "
            "JAX_PLATFORMS=cpu computes on the processor"
        ) from error
    finally:
        log.removeFilter(keep)
    for record in records:  # Such as a GPU that cannot be used, without the stack trace.
        record.exc_info, record.exc_text = None, None
        log.handle(record)
