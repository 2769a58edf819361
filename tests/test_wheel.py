"""The wheel is the whole product: built, installed in a fresh environment, used from elsewhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from cdjax.cli.main import COMMANDS
from cdjax.io.images import read_image

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that does not see this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["CDJAX_CACHE"] = str(cwd.parent / "cache")
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing of an earlier build gets into it."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "cdjax", source / "cdjax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
    run(*pip, "--wheel-dir", source / "dist", source, cwd=source)
    (path,) = (source / "dist").glob("cdjax-*.whl")
    return path


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment with the wheel and, to save time, our packages."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True)
    bin_folder = folder / "bin"
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    # A folder in a .pth file comes last, and its own .pth files, as of this checkout, do not count.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    return bin_folder


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cdjax").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"cdjax/py.typed", "cdjax/weights/wct-16x.npz", "cdjax/cli/main.py"} <= files
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == files


@pytest.mark.skipif(sys.platform == "win32", reason="an environment's programs lie elsewhere")
def test_the_commands_run_from_an_empty_folder(bin_folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    python, cdjax = bin_folder / "python", bin_folder / "cdjax"
    where = run(python, "-c", "import cdjax; print(cdjax.__file__)", cwd=work)
    assert bin_folder.parent in Path(where.strip()).parents
    assert run(python, "-m", "cdjax", "--version", cwd=work) == f"cdjax {version('cdjax')}\n"
    for name in COMMANDS:
        assert f"usage: cdjax {name} " in run(cdjax, name, "--help", cwd=work)
    assert "wct-16x" in run(cdjax, "models", cwd=work)
    run(cdjax, "samples", "pictures", cwd=work)
    pair = ("pictures/content.png", "pictures/style.png", "-o", "result.png")
    sizes = ("--content-size", "32", "--style-size", "32")
    run(cdjax, "stylize", *pair, "--method", "adain", *sizes, cwd=work)
    assert read_image(work / "result.png").pixels.shape == (32, 48, 3)
