"""Downloads are checked, kept, and refused where they are damaged."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdjax.checkpoints.download import TORCHVISION, download
from cdjax.errors import DownloadError
from cdjax.io.cache import cache_folder
from cdjax.progress import Progress


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", folder
        httpd.shutdown()
        thread.join()


def test_a_download_is_checked_and_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    content = bytes(range(256)) * 9000
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (served / name).write_bytes(content)
    cache = tmp_path / "a" / "cache"
    reports: list[Progress] = []
    path = download(f"{url}/{name}", cache, on_progress=reports.append)
    assert reports[-1] == Progress(name, len(content), len(content))
    assert 0 < reports[0].done < len(content)
    assert path == cache / name
    assert path.read_bytes() == content
    path.write_bytes(b"damaged")
    assert download(f"{url}/{name}", cache).read_bytes() == content
    (served / name).unlink()
    assert download(f"{url}/{name}", cache) == path
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_damaged_download_is_refused(name: str, server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    file = Path(TORCHVISION[name]).name
    with pytest.raises(DownloadError, match=r"vgg1\d-\w{8}\.pth \(Not Found\)|File not found"):
        download(f"{url}/{file}", tmp_path / "cache")
    (served / file).write_bytes(b"not the weights")
    with pytest.raises(DownloadError, match=r"damaged; its SHA-256 does not begin with"):
        download(f"{url}/{file}", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    url = "http://127.0.0.1:9/vgg19-dcbb9e9d.pth"
    with pytest.raises(DownloadError) as caught:
        download(url, tmp_path)
    assert str(caught.value).endswith(f"fetch {url} elsewhere and pass its path")
    assert "\n" not in str(caught.value)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CDJAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/cdjax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/cdjax"
    monkeypatch.setenv("CDJAX_CACHE", str(tmp_path / "ours"))
    assert cache_folder() == tmp_path / "ours"
