"""Contents, styles and outputs at addresses of fsspec, here those of a file system in memory."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdjax import load_model, stylize_file
from cdjax.cli.main import main

fsspec = pytest.importorskip("fsspec", reason="needs the extra remote")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

NAMES = ["c__s.png", "c__t.png", "d__s.png", "d__t.png"]


@pytest.fixture
def store(pair: Path) -> Iterator[MemoryFileSystem]:
    """A store with the pictures photos/c.png, d.png and paintings/s.png, t.png."""
    store = MemoryFileSystem()
    for name, source in (("photos/c", "c"), ("photos/d", "s")):
        store.pipe(f"/{name}.png", (pair / f"{source}.png").read_bytes())
    for name, source in (("paintings/s", "s"), ("paintings/t", "c")):
        store.pipe(f"/{name}.png", (pair / f"{source}.png").read_bytes())
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture(params=["objects", "files"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the store is one of objects, which are put in one piece, or of files."""
    monkeypatch.setattr(MemoryFileSystem, "async_impl", request.param == "objects")
    return str(request.param)


def local(pair: Path, store: MemoryFileSystem) -> None:
    """Copies the store's pictures to folders of the same names."""
    for name in store.find("/"):
        path = pair / name[1:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(store.cat(name))


def written(store: MemoryFileSystem, folder: str) -> dict[str, bytes]:
    return {name.rpartition("/")[2]: store.cat(name) for name in store.find(f"/{folder}")}


def test_a_folder_has_the_bytes_and_the_lines_of_local_files(
    store: MemoryFileSystem,
    kind: str,
    pair: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store.pipe("/photos/broken.png", b"not a picture")
    local(pair, store)
    options = ["--weights", str(weights), "--json"]
    assert main(["stylize", "photos", "-s", "paintings", "-o", "out", *options]) == 2
    expected = capsys.readouterr()
    addresses = [f"memory://{name}" for name in ("photos", "paintings", "out/deep")]
    command = ["stylize", addresses[0], "-s", addresses[1], "-o", addresses[2], *options]
    assert main(command) == 2
    assert written(store, "out/deep") == {n: (pair / "out" / n).read_bytes() for n in NAMES}
    said = capsys.readouterr()
    assert said.err.replace("memory://", "").replace("out/deep", "out") == expected.err
    shown = said.out.replace("memory://", "").replace("out/deep", "out")
    for one, other in zip(shown.splitlines(), expected.out.splitlines(), strict=True):
        assert json.loads(one) | {"seconds": 0} == json.loads(other) | {"seconds": 0}


def test_what_is_there_is_kept_and_sizes_are_told(
    store: MemoryFileSystem, pair: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.pipe("/out/c__s.png", b"theirs")
    command = ["stylize", "memory://photos", "-s", "memory://paintings/s.png", "-q", "--json"]
    command += ["-o", "memory://out", "--weights", str(weights)]
    for statuses in (["already there", "made"], ["already there"] * 2):
        assert main(command) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["status"] for line in lines] == statuses
        assert [line["size"] for line in lines] == [None, [32, 24]]
    assert store.cat("/out/c__s.png") == b"theirs"
    assert main([*command, "--overwrite"]) == 0
    assert store.cat("/out/c__s.png").startswith(b"\x89PNG")


def test_what_another_process_put_there_meanwhile_is_kept(
    store: MemoryFileSystem,
    kind: str,
    pair: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cdjax.cli import painting

    write = painting._write

    def overtaken(*arguments: object) -> None:
        store.pipe("/r.png", b"theirs")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(painting, "_write", overtaken)
    inputs = ["memory://photos/c.png", "memory://paintings/s.png"]
    assert main(["stylize", *inputs, "-o", "memory://r.png", "--weights", str(weights)]) == 2
    assert "memory://r.png: already exists by now and is kept" in capsys.readouterr().err
    assert store.cat("/r.png") == b"theirs"


def test_a_store_that_is_full_loses_nothing(
    store: MemoryFileSystem,
    kind: str,
    pair: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put = MemoryFileSystem.put_file

    def full(self: MemoryFileSystem, source: str, target: str, **options: str) -> None:
        if kind == "files":  # Which a store of objects does not show.
            self.pipe(target, Path(source).read_bytes()[:99])
        raise RuntimeError("quota exceeded\nin region 1")

    monkeypatch.setattr(MemoryFileSystem, "put_file", full)
    store.pipe("/r.png", b"old")
    inputs = ["memory://photos/c.png", "memory://paintings/s.png", "-o", "memory://r.png"]
    command = ["stylize", *inputs, "--weights", str(weights), "--overwrite"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said == "cdjax: error: memory://r.png: cannot be written (quota exceeded)\n"
    assert store.cat("/r.png") == b"old"
    assert store.glob("/.cdjax*") == store.glob("/*.part") == []
    monkeypatch.setattr(MemoryFileSystem, "put_file", put)
    assert main(command) == 0
    assert store.cat("/r.png").startswith(b"\x89PNG")


def test_windows_masks_other_commands_and_python_read_addresses(
    store: MemoryFileSystem, pair: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdjax.io.streaming.STREAMED_PIXELS", 24 * 32 - 1)  # As for a huge picture.
    monkeypatch.setattr(tempfile, "tempdir", str(pair / "temporary"))
    monkeypatch.setattr("cdjax.io.remote._scratch", lambda: pair / "temporary" / "copies")
    (pair / "temporary").mkdir()
    local(pair, store)
    for place, output in (("", "a.png"), ("memory://", "memory://b.png")):
        command = ["stylize", f"{place}photos/c.png", f"{place}paintings/s.png", "-o", output]
        command += ["--mask", f"{place}photos/d.png", "--weights", str(weights)]
        assert main([*command, "--quiet"]) == 0
    assert store.cat("/b.png") == (pair / "a.png").read_bytes()
    both = ["memory://photos", "-s", "memory://paintings", "--weights", str(weights), "-q"]
    assert main(["sheet", *both, "-o", "remote.png"]) == 0
    assert main(["sheet", "photos", "-s", "paintings", *both[3:], "-o", "local.png"]) == 0
    assert (pair / "remote.png").read_bytes() == (pair / "local.png").read_bytes()
    model = load_model(weights)
    found = stylize_file(model, "memory://photos/c.png", "paintings/s.png", "memory://p.png")
    assert str(found) == "memory://p.png"
    assert store.cat("/p.png").startswith(b"\x89PNG")
    assert not list((pair / "temporary").iterdir())


def test_file_addresses_are_paths(pair: Path, weights: Path) -> None:
    command = ["stylize", f"file://{pair}/c.png", "s.png", "-o", f"file://{pair}/r.png"]
    assert main([*command, "--weights", str(weights), "-q"]) == 0
    assert (pair / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("memory://nothing", "content memory://nothing: no such file or folder"),
        ("memory://empty", "no images"),
        ("nosuch://a/b.png", "nosuch://a/b.png: cannot be reached (Protocol not known: nosuch)"),
        ("lakefs://a/b.png", "lakefs://a/b.png: cannot be reached (Please install lakefs-spec"),
    ],
)
def test_wrong_addresses_are_one_line(
    store: MemoryFileSystem,
    pair: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    store.mkdir("/empty")
    out = ["-s", "s.png", "-o", "out/", "--weights", str(weights)]
    assert main(["stylize", content, *out]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not os.path.lexists("out")


def test_without_fsspec_its_name_is_said(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert main(["stylize", "s3://b/c.png", "s.png", "-o", "r.png"]) == 2
    assert "s3://b/c.png: needs fsspec: pip install fsspec\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["texture", "optimize"])
def test_other_commands_refuse_outputs_at_addresses(
    pair: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    inputs = ["--size", "64x64", "s.png"] if command == "texture" else ["c.png", "s.png"]
    assert main([command, *inputs, "-o", "memory://r.png"]) == 2
    assert "memory://r.png: only cdjax stylize writes to addresses" in capsys.readouterr().err


def test_a_pyramid_is_not_made_at_an_address(
    store: MemoryFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stylize", "c.png", "s.png", "-o", "memory://out", "--deepzoom"]) == 2
    assert "--deepzoom makes a folder, not at an address" in capsys.readouterr().err
