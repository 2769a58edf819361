"""Fixtures for every test: where the shared material lies."""

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, goldens and images beside the repository."""
    if not (_SHARED / "METHOD.md").is_file():
        pytest.skip(
            f"no shared material at {_SHARED}; the small fixtures of our own cover this path"
        )
    return _SHARED
