"""PyTorch files in both formats, and what is read of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdjax.checkpoints.torch_file import read_torch_file
from tests.torch_files import legacy_bytes, zip_bytes


@pytest.fixture(params=[zip_bytes, legacy_bytes], ids=["zip", "legacy"])
def write(request: pytest.FixtureRequest) -> Callable[[Any], bytes]:
    """Writes a PyTorch file in one of the two formats."""
    return request.param


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, Any]]:
    """Reads the bytes of a PyTorch file."""

    def read(content: bytes) -> dict[str, Any]:
        path = tmp_path / "file.pth"
        path.write_bytes(content)
        return read_torch_file(path)

    return read
