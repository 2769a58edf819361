"""The compilation cache with JAX: damaged programs are compiled again; `cdjax cache`."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.cli import compilation_cache
from cdjax.cli.compilation_cache import use_compilation_cache
from cdjax.cli.main import main
from cdjax.io.cache import cache_folder
from cdjax.io.program_cache import programs_folder
from tests.cli.conftest import CACHE_SETTINGS, forget_cache, own_cache


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The folder of an empty cache."""
    with own_cache(tmp_path / "cache"):
        yield tmp_path / "cache" / "xla"


def compute() -> None:
    """Runs a program as a new process does, with the cache; whatever it warns of is an error."""
    forget_cache()
    use_compilation_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.jit(lambda x: jnp.cumsum(jnp.sin(x)))(np.arange(5, dtype=np.float32))
    np.testing.assert_allclose(found, np.cumsum(np.sin(np.arange(5))), rtol=1e-6)


def written(root: Path) -> dict[str, tuple[int, bytes]]:
    """Inode and content of every file: one that is written again has another inode."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.stat().st_ino, path.read_bytes()) for path in files}


def test_a_program_is_compiled_once(root: Path) -> None:
    compute()
    first = written(root)
    assert any("jit__lambda" in name for name in first)
    assert all(name.endswith(".program") for name in first)
    compute()
    assert written(root) == first


@pytest.mark.parametrize("kind", ["empty", "half", "random", "another program", "JAX's own"])
def test_a_damaged_program_is_compiled_again_without_a_word(root: Path, kind: str) -> None:
    compute()
    first = written(root)
    jax.jit(lambda x: x - 1)(np.ones(5, np.float32))
    other = next(path for name, (_, path) in written(root).items() if name not in first)
    damage = {
        "empty": lambda _: b"",
        "half": lambda content: content[: len(content) // 2],
        "random": lambda content: os.urandom(len(content)),
        "another program": lambda _: other,
        "JAX's own": lambda content: content[32:],
    }[kind]
    damaged = {name: damage(content) for name, (_, content) in first.items()}
    for name, content in damaged.items():
        (root / name).write_bytes(content)
    compute()
    repaired = written(root)
    for name, content in damaged.items():
        assert repaired[name][1] != content
    compute()
    assert written(root) == repaired


def test_machine_code_of_another_compiler_or_processor_is_not_loaded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute()
    ours = written(root)
    count = len(ours)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse avx2\n\nflags\t\t: fpu sse avx2\n")
    with monkeypatch.context() as patch:
        patch.setattr(compilation_cache, "version", lambda name: "0.0.1")
        compute()
        assert len(written(root)) == 2 * count
    monkeypatch.setattr(compilation_cache, "_CPUINFO", cpuinfo)
    compute()
    assert len(written(root)) == 3 * count
    cpuinfo.write_text("flags : sse fpu avx2\n")  # The same, in another order.
    compute()
    assert len(written(root)) == 3 * count
    cpuinfo.write_text("Features : fp asimd\n")
    compute()
    assert len(written(root)) == 4 * count
    monkeypatch.undo()
    monkeypatch.setenv("CDJAX_CACHE", str(root.parent))
    compute()
    assert {name: of for name, of in written(root).items() if name in ours} == ours


def _without_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_cache_is_where_it_was_asked_for_or_nowhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = CACHE_SETTINGS[0]
    jax.config.update(setting, str(tmp_path / "chosen"))
    use_compilation_cache()
    assert getattr(jax.config, setting) == str(tmp_path / "chosen")
    jax.config.update(setting, None)
    root.parent.write_text("")
    use_compilation_cache()
    assert getattr(jax.config, setting) is None
    with monkeypatch.context() as patch:
        patch.delenv("CDJAX_CACHE")
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.setattr(Path, "home", _without_home)
        use_compilation_cache()
        with pytest.raises(OSError, match="CDJAX_CACHE chooses a folder"):
            cache_folder()
    assert getattr(jax.config, setting) is None
    root.parent.unlink()
    use_compilation_cache()
    assert Path(getattr(jax.config, setting)).parent == root
    assert [getattr(jax.config, name) for name in CACHE_SETTINGS[1:]] == [0, -1]


def test_the_command_shows_and_clears_the_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> dict[str, str]:
        assert main(["cache"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return {line[:8].strip(): line[8:].strip() for line in out.splitlines()}

    assert shown() == {"folder": str(root), "files": "0", "size": "0.0 MB of at most 500.0 MB"}
    name = f"jit_f-{'0' * 64}"
    (root / "here").mkdir(parents=True)
    (root / "here" / f"{name}.program").write_bytes(bytes(1_250_000))
    (root / f"{name}-cache").write_bytes(bytes(1_000_000))
    (root / "notes.txt").write_bytes(bytes(1_000_000))
    assert programs_folder() == root
    found = shown()
    assert (found["files"], found["size"]) == ("2", "2.2 MB of at most 500.0 MB")
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr() == (f"removed 2 files, 2.2 MB, from {root}\n", "")
    assert sorted(path.name for path in root.iterdir()) == ["notes.txt"]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/tmp/jax")
    assert main(["cache"]) == 0
    assert "JAX_COMPILATION_CACHE_DIR chooses /tmp/jax\n" in capsys.readouterr().out


def test_a_program_that_cannot_be_removed_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / f"jit_f-{'0' * 64}-cache"
    root.mkdir(parents=True)
    file.write_bytes(b"")

    def refuse(path: Path, **_: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["cache", "--clear"]) == 2
    assert capsys.readouterr() == ("", f"cdjax: error: {file}: Permission denied\n")
