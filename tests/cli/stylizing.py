"""How tests run `cdjax stylize`, and what they look at."""

from pathlib import Path

import pytest

from cdjax.cli.main import main


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(weights: Path, *arguments: str) -> int:
    return main(["stylize", *arguments, "--weights", str(weights)])


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cdjax: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err
