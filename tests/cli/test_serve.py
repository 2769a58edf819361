"""`cdjax serve`: the page gives what `cdjax stylize` gives, keeps nothing, and asks nobody else."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cdjax.cli.main import main
from cdjax.io.images import Picture, read_image, write_image
from tests.browser import Browser, find_browser, wait
from tests.cli.strokes import write_strokes
from tests.models import random_image

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra ui")


@dataclass(frozen=True)
class Server:
    url: str
    temporary: Path
    log: Path

    def files(self) -> list[str]:
        return sorted(path.name for path in self.temporary.rglob("*") if path.is_file())

    def api(self, path: str, data: bytes | None = None, **headers: str) -> str:
        """The body of an answer; `HTTPError` if it is an error."""
        request = urllib.request.Request(f"{self.url}gradio_api/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def server(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    temporary, log = folder / "temporary", folder / "log"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "CDJAX_CACHE": str(folder / "cache")}
    command = ["serve", "--port", "0", "--weights", str(weights), "--max-upload", "1MB"]
    with (
        open(log, "w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "cdjax", *command],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        address = re.compile(r"cdjax: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends\)\n")
        wait(lambda: "\n" in log.read_text() or process.poll() is not None, "the address", 300)
        found = address.fullmatch(log.read_text())
        assert found, log.read_text()
        yield Server(found[1], temporary, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not list(temporary.iterdir())


@pytest.fixture
def client(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from gradio_client import Client

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # The client leaves folders there.
    wait(lambda: not server.files(), "the files of earlier clients are removed")
    found = Client(server.url, verbose=False, download_files=tmp_path / "downloads")
    yield found
    found.close()


def upload(client: Any, event: str, *paths: Path) -> None:
    from gradio_client import handle_file

    files = [handle_file(path) for path in paths]
    client.predict(files if event == "paintings" else files[0], api_name=f"/{event}")


def painted(client: Any, *values: Any) -> bytes:
    """The file that the page offers for download; the values are those of the first sliders."""
    download = client.predict(*values, api_name="/paint")[2]
    return Path(download["value"] if isinstance(download, dict) else download).read_bytes()


def upload_two_paintings(client: Any, pair: Path) -> None:
    """Uploads the photograph c.png and the paintings s.png and t.jpg."""
    write_image(pair / "t.jpg", Picture(random_image(20, 30, seed=5)))
    upload(client, "photograph", pair / "c.png")
    upload(client, "paintings", pair / "s.png", pair / "t.jpg")


@needs_gradio
def test_a_picture_has_the_bytes_of_the_command_line(
    server: Server, client: Any, pair: Path, weights: Path
) -> None:
    upload_two_paintings(client, pair)
    colours = "of the photograph"
    made = painted(client, 0.8, 0.5, 1, 1, 1, 1, 1, colours)
    styles = ["-s", "s.png", "t.jpg", "--mix", "0.5", "1", "--alpha", "0.8"]
    styles += ["--preserve-color", "luminance"]
    assert main(["stylize", "c.png", *styles, "-o", "out/", "--weights", str(weights)]) == 0
    assert made == (pair / "out" / "c__s+t.png").read_bytes()


@needs_gradio
def test_painted_regions_are_masks_of_the_command_line(
    server: Server, client: Any, pair: Path, weights: Path
) -> None:
    upload_two_paintings(client, pair)
    masks = write_strokes(pair / "layer.png")
    upload(client, "regions", pair / "layer.png")
    made = painted(client)
    styles = ["-s", "s.png", "t.jpg", "--masks", *map(str, masks)]
    assert main(["stylize", "c.png", *styles, "-o", "out/", "--weights", str(weights)]) == 0
    assert made == (pair / "out" / "c__s+t.png").read_bytes()


@needs_gradio
def test_twenty_uploads_leave_nothing(server: Server, client: Any, pair: Path) -> None:
    upload(client, "paintings", pair / "s.png")
    for seed in range(20):
        path = pair / f"{seed}.png"
        write_image(path, Picture(random_image(24, 32, seed=seed)))
        upload(client, "photograph", path)
        if seed % 5 == 4:
            assert painted(client)
    kept = ["19.png", "19__s.png", *["preview.jpg"] * 4, "s.png"]
    assert [name for name in server.files() if name in kept] == kept
    client.close()
    wait(lambda: "19.png" not in server.files(), "the files are removed when the client leaves")
    wait(lambda: not server.files(), "no file is left of any client")


@needs_gradio
def test_what_is_no_picture_is_refused_in_a_line(server: Server, client: Any, pair: Path) -> None:
    from gradio_client.exceptions import AppError

    (pair / "notes & <b>.txt").write_text("not a picture")
    with pytest.raises(AppError) as caught:
        upload(client, "photograph", pair / "notes & <b>.txt")
    line = str(caught.value)
    assert "not an image" in line
    assert "<b>" not in line
    assert str(server.temporary) not in line
    assert "Traceback" not in server.log.read_text()
    with pytest.raises(AppError, match="drop a photograph first"):
        painted(client)


@needs_gradio
def test_files_beyond_the_limit_are_refused(server: Server) -> None:
    before = server.files()
    data = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
    data += bytes(2_000_000) + b"\r\n--x--\r\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.api("upload", data, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert caught.value.code == 413
    assert "\n" not in caught.value.read().decode()
    assert server.files() == before


@needs_gradio
def test_in_a_browser(server: Server, pair: Path, weights: Path) -> None:
    if find_browser() is None:
        pytest.skip("needs chromium")
    (pair / "text.txt").write_text("not a picture")
    (pair / "large.png").write_bytes(bytes(2_000_000))
    with Browser(pair / "browser") as browser:
        browser.open(server.url)
        browser.wait("document.querySelector('#photograph input[type=file]')")
        said = "document.querySelector('.toast-wrap')?.innerText.includes({})"
        for name, message in (("large.png", "maximum allowed size"), ("text.txt", "not an image")):
            browser.drop("#photograph input[type=file]", pair / name)
            browser.wait(said.format(json.dumps(message)))
        browser.drop("#photograph input[type=file]", pair / "c.png")
        browser.wait("document.querySelectorAll('img').length == 1")
        browser.drop("#paintings input[type=file]", pair / "s.png")
        browser.wait("document.querySelectorAll('img').length == 2")
        browser.click("#paint")
        browser.wait("document.querySelector('#message').innerText.includes('32 x 24 pixels')")
        browser.wait("document.querySelectorAll('#result img').length == 2")
        browser.click("#download")
        download = browser.downloads / "c__s.png"
        wait(download.exists, "the download")
        first = download.read_bytes()
        download.unlink()
        browser.value("document.querySelector('#regions button').click()")
        browser.wait("document.querySelector('#regions img')?.naturalWidth")
        browser.drag("#regions canvas", (0.1, 0.1), (0.1, 0.5), (0.1, 0.9), (0.1, 0.9))
        shown = "document.querySelector('#result img').src"
        before = browser.value(shown)
        browser.click("#paint")
        browser.wait(f"{shown} != {json.dumps(before)}")
        browser.click("#download")
        wait(download.exists, "the second download")
        browser.drop("#photograph input[type=file]", pair / "c.png")
        browser.wait("!document.querySelector('#regions canvas').painted")
        foreign = [url for url in browser.requested if not url.startswith(server.url)]
        assert not [url for url in foreign if not url.startswith(("data:", "blob:"))]
        assert "Traceback" not in server.log.read_text()
    assert main(["stylize", "c.png", "s.png", "-o", "out/", "--weights", str(weights)]) == 0
    assert first == (pair / "out" / "c__s.png").read_bytes()
    second, whole, content = (
        read_image(path).pixels for path in (download, pair / "out" / "c__s.png", pair / "c.png")
    )
    # The stroke is 3 pixels wide in one of 32 columns, with soft edges.
    assert (second[12, 3] != content[12, 3]).any()
    assert (second[:, 8:] == content[:, 8:]).all()
    assert (whole[:, 8:] != content[:, 8:]).any()
    wait(lambda: "c__s.png" not in server.files(), "the files are removed when the page is closed")


@needs_gradio
@pytest.mark.parametrize("path", ["/etc/hostname", "http://192.0.2.1/hostname"])
@pytest.mark.parametrize("role", ["photograph", "regions"])
def test_only_uploads_are_read(server: Server, role: str, path: str) -> None:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = json.dumps({"data": [file], "session_hash": "a"}).encode()
    event = json.loads(server.api(f"call/{role}", data, **{"Content-Type": "application/json"}))
    assert "event: error" in server.api(f"call/{role}/{event['event_id']}")
    assert "hostname" not in server.files()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nothing"], "nothing: no such file or folder"),
        (["--host", "192.0.2.1"], "192.0.2.1:7860: cannot listen there"),
        (["--port", "70000"], "is not a whole number from 0 to 65535"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cdjax.cli.serve.require", lambda what, *modules: None)
    assert main(["serve", *arguments]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


def test_a_port_that_is_taken_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cdjax.cli.serve.require", lambda what, *modules: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot listen there" in capsys.readouterr().err


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cdjax.cli.parser.find_spec", lambda name: None)
    assert main(["serve"]) == 2
    assert "cdjax serve needs gradio: pip install gradio" in capsys.readouterr().err


def test_the_process_connects_to_no_other_machine() -> None:
    script = """
import socket
from cdjax.cli.serve import refuse_other_machines
refuse_other_machines("127.0.0.1")
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
for address in ("192.0.2.1", "2001:db8::1"):
    try:
        socket.create_connection((address, 80), timeout=5)
    except PermissionError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("connects to no other machine") == 2
