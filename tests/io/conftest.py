"""What the tests of both writers share: writes that fail."""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from cdjax.errors import ImageError


@pytest.fixture(params=["full disk", "interrupt", "short write"])
def failing_write(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AbstractContextManager[None]:
    """A context in which a file of more than 5000 bytes must fail to be written."""
    contexts = {
        "full disk": failing_flush(monkeypatch, OSError(28, "No space left on device")),
        "interrupt": failing_flush(monkeypatch, KeyboardInterrupt()),
        "short write": limited_size(),
    }
    return contexts[request.param]


@contextmanager
def failing_flush(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> Iterator[None]:
    """Fails when the file is flushed to the disk."""

    def fail(number: int) -> None:
        raise fault

    expected = ImageError if isinstance(fault, OSError) else KeyboardInterrupt
    message = "No space left" if expected is ImageError else None
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(expected, match=message):
            yield


@contextmanager
def limited_size() -> Iterator[None]:
    """The system cuts every file after 5000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(ImageError, match="cannot be written"):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
