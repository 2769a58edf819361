"""`cdjax convert`: files of PyTorch, or stages of several models, become a checkpoint."""

from pathlib import Path

import pytest

from cdjax import load_model, save_model
from cdjax.checkpoints.combine import combine_models
from cdjax.checkpoints.pytorch import SOURCES, convert_paper_16x
from cdjax.cli.main import main
from cdjax.networks.spec import Spec, student
from tests.models import random_model, same
from tests.torch_files import paper_files, wct_files


def test_files_become_a_checkpoint_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "files", tmp_path / "out"
    folder.mkdir()
    paper_files(folder, 1)
    paper_files(folder, 2, embeddings=False)
    assert main(["convert", "paper-16x", str(folder), "-o", str(out)]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["stage", "network", "layer", "shape", "parameters"]
    assert ["2", "decoder", "conv2_1", "3x3x32x16", "4,624"] in lines
    assert ["1", "embedding", "relu1_1", "24x64", "1,600"] in lines
    assert ["1", "encoder", "total", "684"] in lines
    assert ["total", f"{sum(student(k).parameter_count for k in (1, 2)) + 1600:,}"] in lines
    assert len({len(line) for line in text.splitlines()[:-1]}) == 1
    assert same(load_model(out), convert_paper_16x(folder))


def test_stages_of_several_models_become_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted, checkpoint, out = (tmp_path / name for name in ("files", "checkpoint", "out"))
    converted.mkdir()
    paper_files(converted, 1)
    paper_files(converted, 2)
    save_model(checkpoint, random_model((Spec(3, (4, 5, 6)), Spec(1, (5,)))))
    assert main(["convert", "combine", str(converted), str(checkpoint), "-o", str(out)]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    stages = [line.split()[0] for line in text.splitlines() if " total " in line]
    assert list(dict.fromkeys(stages)) == ["3", "2", "1", "total"]
    model = load_model(out)
    assert same(model, combine_models([load_model(converted), load_model(checkpoint)]))
    assert [spec.widths for spec in model.config.specs] == [(4, 5, 6), student(2).widths, (5,)]


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, new = str(tmp_path / "out"), str(tmp_path / "new")
    wct_files(tmp_path, 1)
    good = ["convert", "wct-vgg19", str(tmp_path), "-o", out]
    adain = str(tmp_path / "adain")
    save_model(adain, random_model((Spec(1, (5,)),), method="adain"))
    assert main(good) == 0
    assert main([*good, "--overwrite"]) == 0
    capsys.readouterr()
    for arguments, message in [
        (good, "already exists"),
        (["convert", "paper-16x", str(tmp_path), "-o", new], "contains no weights"),
        (["convert", "paper-16x", "-o", new], "needs the PATH"),
        (["convert", "vgg16", str(tmp_path / "none.pth"), "-o", new], "no such file"),
        (["convert", "vgg11", "-o", new], "vgg11: no such file or folder"),
        (["convert", "vgg11", "a", "-o", new], "'vgg11' is none of the sources vgg19, vgg16, wct"),
        (["convert", "wct-vgg19", "a", "b", "-o", new], "wct-vgg19 takes one PATH, not 2"),
        (["convert", "combine", out, "-o", new], "combine needs at least two models"),
        (["convert", "combine", out, out, "-o", out], "already exists"),
        (["convert", "combine", out, adain, "-o", out, "--overwrite"], "is one of the inputs"),
        (["convert", "combine", out, "none", "-o", new], "none: no such"),
        (["convert", "combine", out, adain, "-o", new], "only models of one method"),
    ]:
        assert main(arguments) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert message in output.err
        assert output.err.count("\n") == 1
    assert load_model(out).config.specs[0].stage == 1


def test_every_source_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(source in text for source in SOURCES)
