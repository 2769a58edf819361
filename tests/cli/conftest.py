"""A tiny model and two pictures for tests of the command line."""

from pathlib import Path

import pytest

from cdjax import Spec, save_model
from cdjax.io.images import Picture, write_image
from tests.models import random_image, random_model

SIZE = (24, 32)


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
        write_image(tmp_path / name, Picture(random_image(*SIZE, seed=seed)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands leave JAX's compilation cache as it is."""
    monkeypatch.setattr("cdjax.cli.compilation_cache.use_compilation_cache", lambda: None)
