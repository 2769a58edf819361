"""A tiny model and two pictures for tests of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from numpy.typing import NDArray

from cdjax import Spec, save_model
from cdjax.io.images import Picture, read_image, write_image
from tests.models import random_image, random_model

SIZE = (24, 32)
CACHE_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def forget_cache() -> None:
    """JAX knows of no compilation cache, as in a new process."""
    jax.config.update(CACHE_SETTINGS[0], None)
    compilation_cache.reset_cache()


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Commands keep their programs in `folder`, which JAX forgets again after the context."""
    before = {name: getattr(jax.config, name) for name in CACHE_SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDJAX_CACHE", str(folder))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        forget_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def draw(path: Path, seed: int = 1) -> NDArray[np.uint8]:
    path.parent.mkdir(exist_ok=True)
    pixels = random_image(*SIZE, seed=seed)
    write_image(path, Picture(pixels))
    return read_image(path).pixels


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two stages."""
    path = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(path, random_model((Spec(2, (4, 8)), Spec(1, (4,)))))
    return path


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with c.png and s.png in it."""
    for seed, name in enumerate(("c.png", "s.png"), 1):
        draw(tmp_path / name, seed)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folders(pair: Path) -> Path:
    """Two contents in the folder `in`, two styles in the folder `styles`."""
    for seed, name in enumerate(("in/a.png", "in/b.jpg", "styles/x.png", "styles/y.png")):
        draw(pair / name, seed)
    (pair / "in" / "notes.txt").write_text("no image")
    (pair / "in" / ".hidden.png").write_text("no image")
    (pair / "in" / "deeper").mkdir()
    return pair


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands leave JAX's compilation cache as it is."""
    monkeypatch.setattr("cdjax.cli.compilation_cache.use_compilation_cache", lambda: None)
