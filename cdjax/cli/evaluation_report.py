"""The figures that `cdjax evaluate` writes as JSON, and the Markdown that it prints of them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from cdjax.cli.report import MISSING, document, facts, number, table
from cdjax.evaluation.compare import FLOPS_SIZE, Comparison
from cdjax.evaluation.image_quality import ADAIN_STAGE

Figures = Mapping[str, Any]
_Rows = dict[str, Callable[[Any], str]]


def figures(comparison: Comparison, files: Mapping[str, str]) -> dict[str, Any]:
    """The comparison as JSON, with the bytes of the files of every model and of the teacher."""
    found = asdict(comparison)
    for name, row in (found["models"] | {"teacher": found["teacher"]}).items():
        row["size"]["float32_bytes"] = 4 * row["size"]["parameters"]
        row["size"]["stored_bytes"] = _stored_bytes(files[name])
    return found


def _stored_bytes(name: str) -> int:
    """Bytes of the files that a model is read from."""
    from cdjax.checkpoints.load import find_model

    _, path = find_model(name)
    files = sorted(path.glob("*.pth")) or [path, *path.rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


def _table(first: str, columns: Figures, rows: Mapping[str, Callable[[Any], str]]) -> str:
    """A column for every model, a row for everything that is shown of it."""
    return table(
        [first, *columns], ([name, *map(of, columns.values())] for name, of in rows.items())
    )


def _sizes(columns: Figures) -> str:
    rows: _Rows = {
        "method": lambda of: of["config"]["method"],
        "features of": lambda of: of["config"]["teacher"],
        "stages": lambda of: " ".join(str(spec["stage"]) for spec in of["config"]["specs"]),
        "parameters": lambda of: number(of["size"]["parameters"]),
        "embeddings, parameters": lambda of: number(of["size"]["embedding_parameters"]),
        "float32, MB": lambda of: number(of["size"]["float32_bytes"], ".2f", scale=1e6),
        "files as stored, MB": lambda of: number(of["size"]["stored_bytes"], ".2f", scale=1e6),
        f"GFLOP at {FLOPS_SIZE}x{FLOPS_SIZE}": lambda of: number(of["size"]["gflops"]),
    }
    return _table("", columns, rows) + _SIZE_NOTE


def _unexplained(models: Figures) -> str:
    taps = {
        (stage, tap)
        for model in models.values()
        for stage, taps in model["unexplained"].get("affine", {}).items()
        for tap in taps
    }

    def cell(model: Figures, stage: int, tap: str) -> str:
        forms = (model["unexplained"].get(form, {}) for form in ("affine", "relu"))
        return " / ".join(number(of.get(stage, {}).get(tap), ".3f") for of in forms)

    rows: _Rows = {
        f"stage {stage}, {tap}": lambda model, s=stage, t=tap: cell(model, s, t)  # type: ignore[misc]
        for stage, tap in sorted(taps)
    }
    return _table("affine / relu", models, rows) + _UNEXPLAINED_NOTE


def _reconstructions(columns: Figures) -> str:
    def cell(quality: Figures | None) -> str:
        return f"{quality['psnr']:.1f} / {quality['ssim']:.3f}" if quality else MISSING

    stages = sorted({stage for of in columns.values() for stage in of["reconstruction"]})
    rows: _Rows = {
        f"stage {stage}": lambda of, s=stage: cell(of["reconstruction"].get(s))  # type: ignore[misc]
        for stage in stages
    }
    rows["cascade, alpha 0"] = lambda of: cell(of["cascade"])
    return _table("PSNR, dB / SSIM", columns, rows) + _RECONSTRUCTION_NOTE


def _pairs(columns: Figures, unstylized: Figures) -> str:
    taps = list(unstylized["style_distance"])

    def shown(value: Callable[[Any], float]) -> Callable[[Any], str]:
        return lambda of: f"{value(of['stylized']):.4g}" if of["stylized"] else MISSING

    rows = {
        f"style distance, {tap}": shown(lambda of, t=tap: of["style_distance"][t])  # type: ignore[misc]
        for tap in taps
    }
    deepest = taps[:ADAIN_STAGE][-1]
    rows[f"AdaIN's style loss, {taps[0]} to {deepest}"] = shown(lambda of: of["style_loss"])
    rows[f"AdaIN's content loss, {deepest}"] = shown(lambda of: of["content_loss"])
    rows["content SSIM"] = shown(lambda of: of["content_ssim"])
    beside = dict(columns) | {"content as it is": {"stylized": unstylized}}
    return _table("", beside, rows) + _PAIRS_NOTE


def report(results: Figures) -> str:
    """The Markdown of the figures of `cdjax evaluate`."""
    models = results["models"]
    columns = dict(models) | {"teacher": results["teacher"]}
    sections = {"Size": _sizes(columns)}
    if any(of["unexplained"] for of in models.values()):
        sections["Share of the teacher's variance that is not explained"] = _unexplained(models)
    cascades = [of for of in columns.values() if of["cascade"]]
    if cascades:
        sections["Reconstruction"] = _reconstructions(columns)
    if results["unstylized"]:
        sections["Stylised pairs"] = _pairs(columns, results["unstylized"])
    if len({tuple(spec["stage"] for spec in of["config"]["specs"]) for of in cascades}) > 1:
        sections["Note"] = (
            "The cascades run different stages and do not compare; `--stages` takes those that all "
            "have.\n"
        )
    return document(results.get("title", "Evaluation"), facts(results), sections)


_SIZE_NOTE = """
Parameters are those of encoders (conv0 included) and decoders; embeddings are for training only.
Files hold every stage, and embeddings too. GFLOP count a stylisation: of every stage the encoder
for content and style and the decoder once, two operations per multiply-accumulate of the 3x3
convolutions.
"""
_UNEXPLAINED_NOTE = """
|F - e(F')|^2 / |F - mean F|^2 with the best embedding e of the student's features F' in the
teacher's F: affine, and followed by a ReLU.
"""
_RECONSTRUCTION_NOTE = """
Means over images of decoder(encoder(image)) against the image. AdaIN is trained for transfer and
not for this: it has the cascade at alpha 0 alone.
"""
_PAIRS_NOTE = """
Alpha 1. Style distance: mean squared difference of Gram matrices (means over positions) of result
and style in the teacher's features. AdaIN's losses, of every model: mean squared differences of the
channels' means and deviations of result and style, summed over taps; of the features of the result
and those that AdaIN makes of content and style. Content SSIM: result against content.
"""
