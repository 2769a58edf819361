"""Processes that stylise one large image in one way, when told to, and say what it took.

    python -m experiments.measure_ultra windows|whole|torch FOLDER DTYPE PLATFORM

As `experiments/measure.py`; the lines that a worker answers are

    run   stylise FOLDER/content.npy in the style of FOLDER/style.npy
    save  write the last result, as grey levels, to FOLDER/{windows,whole,torch}.npy

FOLDER also holds `checkpoint/`, `weights.npz` and `limits.json`, the bytes of `memory` and
`host_memory` that `cdjax.stylize_by_windows` may take.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.measure import Image, memory_of, resident

_BAND = 256
_COMPILATION = "/jax/core/compile/backend_compile_duration"


@dataclass(frozen=True)
class _Implementation:
    about: dict[str, Any]
    run: Callable[[Image, Image], NDArray[Any]]
    device_peak: Callable[[], int | None]
    """The most bytes that a GPU ever held; None where the device is the processor."""
    compiling: Callable[[], float]
    """Seconds that went into compilation so far."""


def _cdjax(folder: Path, dtype: str, platform: str, *, windows: bool) -> _Implementation:
    import jax

    from cdjax import load_model, stylize, stylize_by_windows

    seconds = [0.0]

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        seconds[0] += duration_secs if event == _COMPILATION else 0

    jax.monitoring.register_event_duration_secs_listener(listen)
    device = jax.devices()[0]
    model = load_model(folder / "checkpoint")
    limits = json.loads((folder / "limits.json").read_text())

    def run(content: Image, style: Image) -> NDArray[Any]:
        if windows:
            return stylize_by_windows(model, content, style, dtype=dtype, levels=True, **limits)
        return np.asarray(stylize(model, content, style, dtype=dtype))

    statistics = device.memory_stats() or {}
    about = {"device": device.device_kind, "platform": device.platform, "version": jax.__version__}
    return _Implementation(
        about | {"limit": statistics.get("bytes_limit")},
        run,
        lambda: memory_of(device)[1] if device.memory_stats() else None,
        lambda: seconds[0],
    )


def _torch(folder: Path, dtype: str, platform: str) -> _Implementation:
    import torch

    from experiments.plain_torch import Cascade
    from experiments.torch_worker import settled_torch

    about = settled_torch(platform)
    device = about["platform"]
    with np.load(folder / "weights.npz") as arrays:
        cascade = Cascade(arrays, device=device, dtype=getattr(torch, dtype))
    return _Implementation(
        about | {"limit": None},
        cascade,
        lambda: torch.cuda.max_memory_allocated() if device == "cuda" else None,
        lambda: 0.0,
    )


def _load(name: str, folder: Path, dtype: str, platform: str) -> _Implementation:
    if name == "torch":
        return _torch(folder, dtype, platform)
    return _cdjax(folder, dtype, platform, windows=name == "windows")


def grey_levels(result: NDArray[Any], path: Path) -> None:
    """Writes a result, uint8 or float32 in [0, 1], as uint8: rounded as windows' levels are."""
    target = np.lib.format.open_memmap(path, "w+", np.uint8, result.shape)
    for top in range(0, len(result), _BAND):
        band = result[top : top + _BAND]
        target[top : top + _BAND] = band if band.dtype == np.uint8 else np.rint(band * 255)
    target.flush()


def main(name: str, folder: str, dtype: str, platform: str) -> None:
    """Serves one implementation until standard input ends."""

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    implementation = _load(name, Path(folder), dtype, platform)
    content, style = (np.load(Path(folder) / f"{image}.npy") for image in ("content", "style"))
    result: NDArray[Any] | None = None
    answer(**implementation.about)
    for line in sys.stdin:
        match line.strip(), result:
            case "run", _:
                result = None  # Two results at once are not part of a run's memory.
                before, start = implementation.compiling(), time.perf_counter()
                result = implementation.run(content, style)
                seconds = time.perf_counter() - start
                answer(
                    seconds=seconds,
                    compiling=implementation.compiling() - before,
                    # Not getrusage: its figure starts at what the parent held when it forked.
                    peak=resident()[1],
                    device_peak=implementation.device_peak(),
                )
            case "save", np.ndarray():
                grey_levels(result, Path(folder) / f"{name}.npy")
                answer()
            case _:
                raise ValueError(f"cannot {line.strip()} now")


if __name__ == "__main__":
    main(*sys.argv[1:])
