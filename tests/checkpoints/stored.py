"""A small model to store, and a change to what was stored."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cdjax.checkpoints.store import abstract_params
from cdjax.model import Model, ModelConfig
from cdjax.networks.spec import Spec

SPECS = (Spec(2, (4, 6), (1, 1, 1, 1, 1), padding="zero"), Spec(1, (5,)))


def random_model(*, seed: int = 0, embeddings: Any = (2,), **changes: Any) -> Model:
    config = ModelConfig(
        "wct", SPECS, "vgg19-normalised", (("a.pth", "0" * 64), ("ä b.pth", "f" * 64))
    )
    config = dataclasses.replace(config, **changes)
    generator = np.random.default_rng(seed)
    abstract = abstract_params(config, embeddings=embeddings)
    return Model(
        jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), abstract), config
    )


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a checkpoint's metadata as another version of cdjax might write them."""
    file = path / "_CHECKPOINT_METADATA"
    content = json.loads(file.read_text())
    change(content["custom_metadata"])
    file.write_text(json.dumps(content))
    sums = path / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith(file.name)]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sums.write_text("\n".join([*lines, f"{digest}  {file.name}"]) + "\n")
