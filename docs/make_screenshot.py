"""Makes the picture of the page of `cdjax serve` again, from the samples.

    python -m docs.make_screenshot

It runs in the repository's folder and needs the extra `ui` and Chromium.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.browser import Browser

PICTURE = Path(__file__).parent / "pictures" / "page.jpg"


def main() -> None:
    """Serves the page, paints a part of the sample on it, and writes the screenshot."""
    command = [sys.executable, "-m", "cdjax", "serve", "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        with Browser(Path(folder), size=(1200, 1250)) as browser:
            browser.open(found[0])
            browser.wait("document.querySelector('#samples')", 300)
            time.sleep(5)  # Until the page answers clicks.
            browser.click("#samples")
            browser.wait("document.querySelectorAll('img').length == 2", 300)
            browser.click("#regions button")
            browser.wait("document.querySelector('#regions img')?.naturalWidth")
            browser.value("document.querySelector('#regions input').value = 40")
            browser.drag("#regions canvas", *((i / 40, 0.82) for i in range(41)), (1, 0.82))
            browser.click("#paint")
            browser.wait("document.querySelectorAll('#result img').length == 2", 600)
            time.sleep(2)  # Until what moves has come to rest.
            shot = Path(folder) / "shot.png"
            browser.screenshot(shot)
            image = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
        server.terminate()
    image.save(PICTURE, quality=72, optimize=True)


if __name__ == "__main__":
    main()
