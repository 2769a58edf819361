"""The files of those who use the page of `cdjax serve`: a folder each, removed when they leave."""

import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cdjax.cli.interrupts import InterruptGuard
from cdjax.errors import UsageError

_IDLE = 3600.0
"""Seconds after which the files of someone who does nothing are removed."""
_STRAY = 600.0
"""Seconds after which files that belong to nobody, such as cut-off uploads, are removed."""


@dataclass
class Session:
    """What one user has uploaded, and the result.

    Attributes:
        folder: where the files are.
        content: the photograph.
        styles: the paintings.
        layer: what was painted on the photograph to show where the paintings go.
        guard: of the picture that is being made, if any.
        used: when the user was last seen, by `time.monotonic`.
    """

    folder: Path
    content: Path | None = None
    styles: tuple[Path, ...] = ()
    layer: Path | None = None
    guard: InterruptGuard | None = None
    used: float = field(default_factory=time.monotonic)

    def take(self, uploads: list[Path], folder: Path) -> tuple[Path, ...]:
        """Moves uploads into a folder of this session.

        Raises:
            UsageError: if an upload is not there any more.
        """
        taken = []
        for number, path in enumerate(uploads):
            target = folder / str(number) / path.name
            target.parent.mkdir()
            try:
                os.rename(path, target)
            except FileNotFoundError:  # Someone else uploaded the same file at the same time.
                raise UsageError(f"{path.name}: the upload was removed; drop it again") from None
            with suppress(OSError):  # Not empty while the same file is being uploaded again.
                path.parent.rmdir()
            taken.append(target)
        return tuple(taken)

    @contextmanager
    def replacing(self, role: str) -> Iterator[Path]:
        """An empty folder for files of a role, such as the result.

        It replaces the one that was there at the end of the context, and is removed after an
        exception. It has a new name, because browsers keep pictures by their addresses.
        """
        place = self.folder / role
        fresh = place / secrets.token_hex(4)
        fresh.mkdir(parents=True)
        try:
            yield fresh
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for other in set(place.iterdir()) - {fresh}:
            shutil.rmtree(other, ignore_errors=True)

    @contextmanager
    def working(self) -> Iterator[InterruptGuard]:
        """The guard of what is made in the context."""
        self.guard = guard = InterruptGuard()
        try:
            yield guard
        finally:
            self.guard, self.used = None, time.monotonic()

    def shortened(self, text: str) -> str:
        """A text in which files are named without their folders."""
        return re.sub(rf"{re.escape(str(self.folder))}/[\w-]+/[0-9a-f]+/(\d+/)?", "", text)


class Sessions:
    """The sessions of a server, by the keys that the users' browsers send.

    Args:
        root: the folder in which uploads arrive, as long as the server runs its own.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def get(self, key: str | None) -> Session:
        """The session of a key, a new one if there is none; UsageError without a key."""
        if not key:
            raise UsageError("a request without a session; open the page in a browser")
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                # The name cannot be guessed, so nobody else finds the files.
                session = Session(self._root / f"session-{secrets.token_hex(16)}")
                self._sessions[key] = session
            session.used = time.monotonic()
        return session

    def stop(self, key: str | None) -> None:
        """Interrupts what is being made for a session, if anything."""
        session = self._sessions.get(key or "")
        if session is not None and (guard := session.guard) is not None:
            guard.interrupt()

    def end(self, key: str | None) -> None:
        """Stops the work for a session and removes its files."""
        self.stop(key)
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            shutil.rmtree(session.folder, ignore_errors=True)

    def end_all(self) -> None:
        """Ends all sessions."""
        for key in list(self._sessions):
            self.end(key)

    def sweep(self) -> None:
        """Ends sessions that were not used for an hour, and removes what belongs to nobody."""
        now = time.monotonic()
        for key, session in list(self._sessions.items()):
            if session.guard is None and now - session.used > _IDLE:
                self.end(key)
        owned = {session.folder for session in list(self._sessions.values())}
        for path in set(self._root.iterdir()) - owned:
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STRAY:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
