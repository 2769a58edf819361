"""The command `cdjax` itself: its subcommands, its help, its errors, its exit status."""

import importlib.util
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import cdjax
import cdjax.cli.main
import cdjax.cli.parser
from cdjax.checkpoints.pretrained import available_models
from cdjax.cli.main import COMMANDS, exit_status, main
from cdjax.cli.parser import require
from cdjax.errors import ImageError, TrainingError, UsageError

ROOT = Path(__file__).parents[2]


def test_the_bare_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr()
    assert main(["--help"]) == 0
    assert capsys.readouterr() == bare
    assert bare.err == ""
    for name, about in COMMANDS.items():
        assert f"  {name} " in bare.out
        assert about in bare.out


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cdjax {version('cdjax')}\n"
    assert cdjax.__version__ == version("cdjax")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paint"], "no command 'paint'; there are stylize, "),
        (["--verbose"], "unrecognized arguments: --verbose"),
        (["samples"], "required: FOLDER"),
        (["models", "wct-16x"], "unrecognized arguments: wct-16x"),
        (["cache", "clear"], "unrecognized arguments: clear"),
    ],
)
def test_wrong_use_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cdjax: error: ")
    assert message in err
    assert err.count("\n") == 1


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ImageError("a.png: broken\nimage"), 2, "cdjax: error: a.png: broken image\n"),
        (TrainingError("step 3: not finite"), 1, "cdjax: error: step 3: not finite\n"),
        (OSError("disk full"), 2, "cdjax: error: disk full\n"),
        (OSError(28, "No space left", "a\x1b[2J"), 2, "cdjax: error: a\\x1b[2J: No space left\n"),
        (ImageError("\udcff.png: broken"), 2, "cdjax: error: \\udcff.png: broken\n"),
        (MemoryError("4 GB"), 2, "cdjax: error: out of memory (4 GB)\n"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: x"),
            2,
            "cdjax: error: out of memory (RESOURCE_EXHAUSTED: x)\n",
        ),
        (
            RuntimeError("can't start new thread"),
            2,
            "cdjax: error: out of memory (can't start new thread)\n",
        ),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            2,
            "cdjax: error: a library cannot be loaded (libx.so: failed to map segment from shared "
            "object); give it more memory (ulimit -v), or install it again\n",
        ),
        (KeyboardInterrupt(), 130, "cdjax: interrupted\n"),
        (KeyboardInterrupt("run it again"), 130, "cdjax: interrupted; run it again\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_errors_become_a_line_and_a_status(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str
) -> None:
    assert exit_status(raising(error)) == status
    assert capsys.readouterr().err == line


def test_warnings_are_lines_but_not_those_of_the_cache(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run() -> int:
        warnings.simplefilter("default")
        message = "Error reading persistent compilation cache entry for 'jit_f': error: x"
        warnings.warn(message, stacklevel=1)
        warnings.warn("a driver\nis old", stacklevel=1)
        return 0

    assert exit_status(run) == 0
    assert capsys.readouterr() == ("", "cdjax: warning: a driver is old\n")


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), RuntimeError("x"), ImportError("cannot import name 'x'")]
)
def test_a_fault_of_the_program_is_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_status(raising(error))


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited elsewhere")
def test_too_little_address_space_is_one_line() -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 1900000; "$@"', "", sys.executable, "-m", "cdjax", "stylize"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cdjax: error: the limit of address space, 1.9 GB, is too low")
    assert done.stderr.count("\n") == 1


def test_a_deleted_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_status(lambda: len(os.getcwd())) == 2
    assert capsys.readouterr().err.startswith("cdjax: error: the current folder does not exist")


@pytest.mark.parametrize(
    ("platform", "arguments"),
    [("cuda", ["evaluate", "wct-16x"]), ("paper", ["convert", "vgg19", "none.pth"])],
)
def test_a_backend_that_does_not_start_is_one_line(
    tmp_path: Path, platform: str, arguments: list[str]
) -> None:
    if platform == "cuda" and importlib.util.find_spec("jax_cuda12_plugin"):
        pytest.skip("CUDA is installed, and may start")
    more = ["-o", "out"]
    if arguments[0] == "evaluate":
        more = ["--teacher", "wct-16x", "--images", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "cdjax", *arguments, *more],
        env=os.environ | {"JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cdjax: error: JAX_PLATFORMS={platform}: this backend does not")
    assert done.stderr.endswith("JAX_PLATFORMS=cpu computes on the processor\n")
    assert done.stderr.count("\n") == 1


def test_missing_packages_are_named_as_pip_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    require("nothing", "tyro")
    monkeypatch.setattr(cdjax.cli.parser, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        require("distill", "tyro", "tensorflow_datasets")
    packages = ("tyro, tensorflow-datasets", "tyro tensorflow-datasets")
    assert str(caught.value) == "distill needs {}: pip install {}".format(*packages)


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["wct-16x", "wct", "vgg16-normalised", "3.2", "MB", "MIT"] in rows
    assert {model.name for model in available_models()} <= {row[0] for row in rows if row}


def test_help_of_the_commands_imports_nothing_heavy() -> None:
    script = (
        "import sys; from cdjax.cli.main import COMMANDS, main\n"
        "for name in ['', *COMMANDS]:\n"
        "    if name != 'distill':\n"
        "        assert main([name, '--help'] if name else []) == 0\n"
        "assert not {'jax', 'orbax', 'flax', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("experiments/distill.py", "distill"),
        ("experiments/gatys.py", "optimize"),
        ("experiments/evaluate.py", "evaluate"),
        ("convert_weights.py", "convert"),
    ],
)
def test_the_programs_of_the_repository_are_the_commands(
    monkeypatch: pytest.MonkeyPatch, program: str, command: str
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(cdjax.cli.main, "command", called.append)
    monkeypatch.setattr(sys, "argv", [program, "a", "--option", "1"])
    runpy.run_path(str(ROOT / program), run_name="__main__")
    assert called == [[command, "a", "--option", "1"]]
