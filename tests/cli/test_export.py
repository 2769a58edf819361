"""`cdjax export`: formats by suffix, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

import cdjax
from cdjax import Spec, save_model
from cdjax.cli.main import main
from tests.models import random_model


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.safetensors"
    save_model(path, random_model((Spec(1, (4,)),), method="adain"))
    return str(path)


@pytest.mark.parametrize(("suffix", "package"), [("onnx", "onnx"), ("stablehlo", "flatbuffers")])
def test_a_file_is_written_and_not_replaced(
    suffix: str, package: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(package, reason="needs the extra export")
    output = tmp_path / f"out.{suffix}"
    assert main(["export", model, "-o", str(output)]) == 0
    assert capsys.readouterr() == (f"wrote {output} (0.0 MB)\n", "")
    data = output.read_bytes()
    assert len(data) > 1000
    assert str(Path(cdjax.__file__).parent).encode() not in data
    output.write_bytes(b"mine")
    assert main(["export", model, "-o", str(output)]) == 2
    assert "already exists; --overwrite replaces it" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"
    assert main(["export", model, "-o", str(output), "--overwrite"]) == 0
    assert len(output.read_bytes()) > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "-o", "out.bin"], "the suffix is '.bin'; give .onnx or .stablehlo"),
        (["nothing", "-o", "out.onnx"], "nothing: no such file or folder"),
        (["MODEL", "-o", "none/out.onnx"], "cannot be written"),
    ],
)
def test_refusals_are_one_line(
    arguments: list[str],
    message: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdjax.cli.export.require", lambda what, *modules: None)
    assert main(["export", *(model if a == "MODEL" else a for a in arguments)]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_missing_package_is_named(
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cdjax.cli.parser.find_spec", lambda name: None)
    assert main(["export", model, "-o", str(tmp_path / "out.onnx")]) == 2
    assert "a .onnx file needs onnx: pip install onnx" in capsys.readouterr().err


def test_other_commands_load_none_of_it() -> None:
    script = (
        "import sys; import cdjax.cli.stylize, cdjax.cli.painting, cdjax.cli.batch; "
        "print(*{'onnx', 'onnxruntime', 'gradio', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
