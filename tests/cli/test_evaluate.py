"""`cdjax evaluate`, from its arguments to its table, its JSON and its errors."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cdjax.io.atomic
from cdjax import Spec, save_model, stylize
from cdjax.cli.evaluate import pairs_in_turn
from cdjax.cli.main import main
from cdjax.evaluation.compare import read_photographs, with_stages
from cdjax.evaluation.image_quality import reconstruction
from tests.evaluated import DEPTHS, LARGE, SMALL, lone, networks, photographs, unexplained_variance
from tests.experiments import fakes
from tests.models import random_model


def test_pairs_take_all_styles_and_never_repeat_one():
    contents, styles = np.arange(4), np.arange(6)
    pairs = pairs_in_turn(contents, styles, 100)
    assert len(set(zip(*pairs, strict=True))) == len(pairs[0]) == 24
    assert sorted(pairs_in_turn(contents, styles, 6)[1]) == list(range(6))


def tables(text: str) -> dict[str, dict[str, list[str]]]:
    """Rows by heading and first cell."""
    return {
        heading: {first: cells for first, *cells in rows}
        for heading, rows in fakes.tables(text).items()
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for name, model in (("large", LARGE), ("small", SMALL), ("lone", lone(SMALL))):
        save_model(folder / name, model)
    photographs(folder / "images", 10)
    photographs(folder / "styles", 2)
    return folder


@pytest.fixture
def work(uncached: None, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with a copy of the inputs in it."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMON = ["--teacher", "large", "--images", "images", "--size", "16", "--batch", "5"]


def test_the_command_from_files_to_table_and_json(work: Path, capsys: pytest.CaptureFixture[str]):
    (work / "out.json").write_text("old")
    before = sorted(path.name for path in work.iterdir())
    extra = ["--styles", "styles", "--pairs", "3", "--json", "out.json", "--overwrite"]
    extra += ["--judges", "large", "small", "--alphas", "1", "0.5"]
    assert main(["evaluate", "small", "lone", *COMMON, *extra]) == 0
    assert sorted(path.name for path in work.iterdir()) == before
    text = capsys.readouterr().out
    figures = json.loads((work / "out.json").read_text())
    assert figures["photographs"]["fit"]["count"] == 5
    assert figures["photographs"]["test"]["count"] == 5
    assert figures["pairs"] == 3
    assert list(figures["models"]) == ["small", "lone"]
    small = figures["models"]["small"]

    crops = read_photographs("images", size=16).images
    wanted = unexplained_variance(
        networks(SMALL)[0], networks(LARGE)[0], crops[:5], crops[5:], batch=1
    )
    assert small["unexplained"]["affine"]["2"] == pytest.approx(wanted, rel=1e-3)
    wanted = reconstruction(SMALL, SMALL.config.specs[:1], crops[5:], batch=2)
    assert small["reconstruction"]["2"] == pytest.approx(dataclasses.asdict(wanted), rel=1e-5)
    files = sum(path.stat().st_size for path in (work / "small").rglob("*") if path.is_file())
    assert small["size"]["stored_bytes"] == files
    assert small["size"]["float32_bytes"] == 4 * small["size"]["parameters"]
    assert small["config"]["specs"][0]["widths"] == [3, 4]

    found = tables(text)
    assert list(found) == [
        "Size",
        "Share of the teacher's variance that is not explained",
        "Reconstruction",
        "Stylised pairs",
        "Style at equal content, in the features of large",
        "Style at equal content, in the features of small",
    ]
    assert found["Size"][""] == ["small", "lone", "teacher"]
    assert found["Size"]["stages"] == ["2 1", "2", "2 1"]
    shares = [small["unexplained"][form]["2"]["relu1_1"] for form in ("affine", "relu")]
    rows = found["Share of the teacher's variance that is not explained"]
    assert rows["stage 2, relu1_1"] == [" / ".join(f"{share:.3f}" for share in shares)] * 2
    assert rows["stage 1, relu1_1"][1] == "-"
    quality = small["reconstruction"]["1"]
    shown = found["Reconstruction"]["stage 1"]
    assert shown[:2] == [f"{quality['psnr']:.1f} / {quality['ssim']:.3f}", "-"]
    distance = small["stylized"]["style_distance"]["relu2_1"]
    assert found["Stylised pairs"]["style distance, relu2_1"][0] == f"{distance:.4g}"
    judged = figures["judges"]["large"]
    assert list(judged) == ["small"]
    at_half = judged["small"]["rows"][1]
    assert at_half["alpha"] == 0.5
    line = next(line for line in text.splitlines() if line.startswith("| small | 0.5 |"))
    gram = sum(at_half["gram"].values())
    assert line.split(" | ")[2] == f"{gram:.3f}"
    assert "| small | 1.000 | 1.000 |" in text


def test_a_sheet_shows_every_pair_by_every_model(work: Path):
    options = ["--styles", "styles", "--pairs", "3", "--alphas", "0.5", "--sheet", "sheet.png"]
    assert main(["evaluate", "small", "lone", *COMMON, *options]) == 0
    with Image.open(work / "sheet.png") as image:
        sheet = np.asarray(image)
    header = len(sheet) - 3 * 16
    assert sheet.shape[1] == 3 * 16
    contents = read_photographs("images", size=16).images[5:8]
    styles = read_photographs("styles", size=16).images
    for row, (content, style) in enumerate(zip(contents, [*styles, styles[0]], strict=True)):
        band = sheet[header + 16 * row :][:16]
        np.testing.assert_array_equal(band[:, :16], content)
        np.testing.assert_array_equal(band[:, 16:32], style)
        made = np.rint(np.asarray(stylize(SMALL, content, style, alpha=0.5)) * 255)
        np.testing.assert_array_equal(band[:, 32:], made)


def test_models_of_other_teachers_are_measured_and_what_is_left_out_is_said(
    work: Path, capsys: pytest.CaptureFixture[str]
):
    other = random_model((Spec(2, (3, 4), (1, 1, 1, 1, 1)), Spec(1, (4,), DEPTHS)), seed=8)
    save_model(work / "other", other)
    Path("images/broken.png").write_text("no picture")
    options = ["--styles", "styles", "--pairs", "2", "--alphas", "1", "--json", "out.json", "-q"]
    assert main(["evaluate", "small", "other", *COMMON, *options]) == 2
    said = capsys.readouterr()
    assert "not compared with the teacher's features: other: stages 2" in said.out
    assert said.err.startswith("cdjax: error: images/broken.png: not an image, or broken, or not")
    assert said.err.count("\n") == 1
    figures = json.loads((work / "out.json").read_text())
    assert list(figures["models"]["other"]["unexplained"]["affine"]) == ["1"]
    assert set(figures["models"]["other"]["reconstruction"]) == {"1", "2"}
    assert list(figures["judges"]["large"]) == ["small", "other"]


def test_adain_beside_a_teacher_with_a_decoder_of_its_own(
    work: Path, capsys: pytest.CaptureFixture[str]
):
    for name, model in (("teacher", LARGE), ("student", SMALL)):
        config = dataclasses.replace(model.config, method="adain")
        save_model(work / name, with_stages(dataclasses.replace(model, config=config), [2]))
    options = ["--styles", "styles", "--pairs", "2", "--alphas", "1", "--json", "out.json"]
    assert main(["evaluate", "student", "--teacher", "teacher", *COMMON[2:], *options]) == 0
    text = capsys.readouterr().out
    figures = json.loads((work / "out.json").read_text())
    student, teacher = figures["models"]["student"], figures["teacher"]
    assert list(student["unexplained"]["affine"]["2"]) == ["relu1_1", "relu2_1"]
    found = tables(text)
    assert found["Size"]["method"] == ["adain", "adain"]
    # Reconstruction is not what its decoders are for: alpha 0 is left, one number.
    assert student["reconstruction"] == teacher["reconstruction"] == {}
    rows = found["Reconstruction"]
    assert list(rows) == ["PSNR, dB / SSIM", "cascade, alpha 0"]
    assert rows["cascade, alpha 0"][0].startswith(f"{student['cascade']['psnr']:.1f} / ")
    rows = found["Stylised pairs"]
    assert rows[""] == ["student", "teacher", "content as it is"]
    parts = [part["stylized"] for part in (student, teacher)] + [figures["unstylized"]]
    for row, name in (
        ("AdaIN's style loss, relu1_1 to relu2_1", "style_loss"),
        ("AdaIN's content loss, relu2_1", "content_loss"),
        ("content SSIM", "content_ssim"),
    ):
        assert rows[row] == [f"{part[name]:.4g}" for part in parts]
        assert len(set(rows[row])) == 3
    assert "do not compare" not in text


def test_fitted_on_another_folder(work: Path):
    photographs(work / "fit", 5)
    options = ["--fit-images", "fit", "--count", "4", "--json", "out.json", "--stages", "1"]
    assert main(["evaluate", "small", *COMMON, *options]) == 0
    figures = json.loads((work / "out.json").read_text())
    assert [figures["photographs"][name]["count"] for name in ("fit", "test")] == [4, 4]
    fit, test = (read_photographs(name, size=16, count=4).images for name in ("fit", "images"))
    wanted = unexplained_variance(networks(SMALL)[1], networks(LARGE)[1], fit, test, batch=2)
    found = figures["models"]["small"]["unexplained"]["affine"]
    assert list(found) == ["1"]
    assert found["1"] == pytest.approx(wanted, rel=1e-3)
    assert figures["unstylized"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", *COMMON], "none: no such"),
        (["small", "--teacher", "none", *COMMON[2:]], "none: no such file or folder"),
        (["small", *COMMON, "--images", "none"], "none: no such folder"),
        (["small", *COMMON, "--styles", "large"], "large: no images"),
        (["small", *COMMON, "--size", "17"], "multiple of 2 pixels"),
        (["small", *COMMON, "--count", "1"], "images: one photograph is too few to fit to and"),
        (["small", *COMMON, "--stages", "3"], "small: the model has the stages 2, 1, not all of 3"),
        (["small", *COMMON, "--fit-images", "images"], "--fit-images must be another folder"),
        (["small", *COMMON, "--json", "none/out.json"], "none/out.json cannot be written"),
        (["small", *COMMON, "--judges", "large"], "--judges and --sheet need --styles"),
        (["small", *COMMON, "--styles", "styles", "--judges", "none"], "none: no such file"),
        (["small", *COMMON, "--styles", "styles", "--sheet", "a.xyz"], "a.xyz"),
        (["small", *COMMON, "--styles", "styles", "--alphas", "3"], "'3' is not a number from 0"),
        (["small", *COMMON, "--batch", "0"], "'0' is not a whole number from 1"),
        (["small", "small", *COMMON], "a model is given twice"),
        (["images", *COMMON], "images: not a checkpoint of cdjax"),
    ],
)
def test_bad_input_is_one_line_and_loses_nothing(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    (work / "out.json").write_text("old")
    if "--json" not in arguments:
        arguments = [*arguments, "--json", "out.json", "--overwrite"]
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.replace("\r", "\n").split("\n") if message in line]
    assert len(lines) == 1
    assert "Traceback" not in err
    assert (work / "out.json").read_text() == "old"


def test_a_json_that_cannot_be_written_comes_after_the_table(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, text: str, *, overwrite: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cdjax.io.atomic, "write_text", full)
    options = ["--json", "out.json", "--stages", "1", "--count", "2"]
    options += ["--styles", "styles", "--pairs", "1", "--alphas", "1", "--sheet", "sheet.png"]
    assert main(["evaluate", "small", *COMMON, *options]) == 2
    out, err = capsys.readouterr()
    assert "## Reconstruction" in out
    assert "out.json: cannot be written (No space left on device)" in err
    assert (work / "sheet.png").exists()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["--json", "old"], "output old: already exists; --overwrite replaces it"),
        (["--sheet", "old.png"], "output old.png: already exists; --overwrite replaces it"),
        (["--json", "link"], "output link: already exists"),
        (["--json", "images/00.png", "--overwrite"], "is one of the inputs, which are never"),
        (["--sheet", "styles/00.png", "--overwrite"], "is one of the inputs, which are never"),
        (["--json", "a.png", "--sheet", "a.png"], "given twice"),
    ],
)
def test_files_that_exist_are_not_replaced(
    work: Path, capsys: pytest.CaptureFixture[str], outputs: list[str], message: str
):
    for name in ("old", "old.png"):
        (work / name).write_text("mine")
    (work / "link").symlink_to("nothing")
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert main(["evaluate", "small", *COMMON, "--styles", "styles", *outputs]) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_the_published_model(uncached: None, shared: Path, tmp_path: Path):
    photos = tmp_path / "photographs"
    photos.mkdir()
    for file in sorted((shared / "images/content").glob("*.jpg"))[::250][:12]:
        Image.open(file).resize((96, 96)).save(photos / file.name)
    teacher, published = (str(shared / "reference" / n) for n in ("vgg19_normalised", "wct16x"))
    options = ["--size", "96", "--stages", "1", "--json", str(tmp_path / "out.json")]
    assert (
        main(["evaluate", published, "--teacher", teacher, "--images", str(photos), *options]) == 0
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    model = figures["models"]["wct16x"]
    assert model["reconstruction"]["1"]["psnr"] > 40
    assert model["reconstruction"]["1"]["ssim"] > 0.98
    # Of stage 1 alone, 24 channels wide.
    assert model["size"]["parameters"] == 12 + (27 * 24 + 24) + (9 * 24 * 3 + 3)
    affine, relu = (model["unexplained"][form]["1"]["relu1_1"] for form in ("affine", "relu"))
    assert relu < affine / 2 < 0.03
    assert figures["teacher"]["reconstruction"]["1"]["psnr"] > 20
