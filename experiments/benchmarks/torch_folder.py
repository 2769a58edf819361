"""Stylises the photographs of a folder with PyTorch, as `cdjax stylize` does it.

    python -m experiments.benchmarks.torch_folder TASK

The task, JSON, is that of `torch_networks.stylization`, with the files and folders `contents`,
`style` and `output`. The style is encoded once. This module imports neither JAX nor cdjax.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.benchmarks.torch_networks import stylization


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def main() -> None:
    """Writes a JPEG file for every photograph, of the quality that cdjax writes by default."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    encode, stylize = stylization(task)
    style = encode(_read(Path(task["style"])))
    for path in sorted(Path(task["contents"]).iterdir()):
        levels = np.rint(stylize(_read(path), style) * 255).astype(np.uint8)
        target = Path(task["output"], path.name)
        Image.fromarray(levels).save(target, quality=95, subsampling="4:4:4")


if __name__ == "__main__":
    main()
