"""A headless Chromium that tests drive through its debugging pipe, without further packages."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--hide-scrollbars"),
)


def find_browser() -> str | None:
    """The path of Chromium, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One tab of a new Chromium; to be used as a context.

    Attributes:
        requested: addresses that the tab asked for.
    """

    def __init__(self, folder: Path, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.requested: list[str] = []
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        path = find_browser()
        assert path
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads file 3 and writes file 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        command = [
            *("/bin/bash", "-c", shell, "bash", path, *_QUIET, "--remote-debugging-pipe"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size={},{}".format(*size)),
        ]
        self._process = subprocess.Popen(
            command,
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "DOM", "Runtime"):
            self.call(f"{domain}.enable")
        where = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self.call("Page.setDownloadBehavior", **where)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._write)
        self._process.terminate()
        self._process.wait(20)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 2**16)
            assert data, "the browser ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Waits until an expression is true."""
        wait(lambda: self.value(f"!!({expression})"), expression, seconds)

    def click(self, selector: str) -> None:
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def drag(self, selector: str, *places: tuple[float, float]) -> None:
        """Moves the mouse, its button pressed, over what the selector finds.

        The places are fractions of its width and height.
        """
        found = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{found}.scrollIntoView()")
        box = self.value(f"{found}.getBoundingClientRect().toJSON()")
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 2), "mouseReleased"]
        for kind, (across, down) in zip(kinds, places, strict=True):
            where = {"x": box["x"] + across * box["width"], "y": box["y"] + down * box["height"]}
            button = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **where, **button)

    def drop(self, selector: str, *paths: Path) -> None:
        """Hands files to the file input that the selector finds."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait(found)
        node = self.call("Runtime.evaluate", expression=found)["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], objectId=node)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def wait(found: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What a function finds as soon as it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} seconds: {what}")
