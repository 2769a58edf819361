"""The figures that `cdjax evaluate` writes as JSON, and the Markdown that it prints of them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from cdjax.checkpoints.load import find_model
from cdjax.cli.report import MISSING, document, facts, number, table
from cdjax.evaluation.compare import FLOPS_SIZE, Comparison
from cdjax.evaluation.image_quality import ADAIN_STAGE

Figures = Mapping[str, Any]


def figures(comparison: Comparison, files: Mapping[str, str]) -> dict[str, Any]:
    """The comparison as JSON, with the bytes of the files of every model and of the teacher."""
    found = asdict(comparison)
    for name, row in (found["models"] | {"teacher": found["teacher"]}).items():
        row["size"]["float32_bytes"] = 4 * row["size"]["parameters"]
        _, path = find_model(files[name])
        stored = sorted(path.glob("*.pth")) or [path, *path.rglob("*")]
        row["size"]["stored_bytes"] = sum(file.stat().st_size for file in stored if file.is_file())
    return found


def _table(first: str, columns: Mapping[str, Mapping[str, str]], names: Iterable[str]) -> str:
    """A column for every model, with its cells by the names of the rows."""
    rows = ([name, *(cells.get(name, MISSING) for cells in columns.values())] for name in names)
    return table([first, *columns], rows)


def _sizes(columns: Figures) -> str:
    def cells(of: Figures) -> dict[str, str]:
        size = of["size"]
        return {
            "method": of["config"]["method"],
            "features of": of["config"]["teacher"],
            "stages": " ".join(str(spec["stage"]) for spec in of["config"]["specs"]),
            "parameters": number(size["parameters"]),
            "embeddings, parameters": number(size["embedding_parameters"]),
            "float32, MB": number(size["float32_bytes"], ".2f", scale=1e6),
            "files as stored, MB": number(size["stored_bytes"], ".2f", scale=1e6),
            f"GFLOP at {FLOPS_SIZE}x{FLOPS_SIZE}": number(size["gflops"]),
        }

    found = {name: cells(of) for name, of in columns.items()}
    return _table("", found, found["teacher"]) + _SIZE_NOTE


def _unexplained(models: Figures) -> str:
    def cells(forms: Figures) -> dict[str, str]:
        return {
            f"stage {stage}, {tap}": f"{share:.3f} / {forms['relu'][stage][tap]:.3f}"
            for stage, taps in forms.get("affine", {}).items()
            for tap, share in taps.items()
        }

    found = {name: cells(of["unexplained"]) for name, of in models.items()}
    return _table("affine / relu", found, sorted(set().union(*found.values()))) + _UNEXPLAINED_NOTE


def _reconstructions(columns: Figures) -> str:
    def cells(of: Figures) -> dict[str, str]:
        qualities = {f"stage {stage}": quality for stage, quality in of["reconstruction"].items()}
        return {
            name: f"{quality['psnr']:.1f} / {quality['ssim']:.3f}"
            for name, quality in (qualities | {cascade: of["cascade"]}).items()
            if quality
        }

    cascade = "cascade, alpha 0"
    found = {name: cells(of) for name, of in columns.items()}
    stages = sorted(set().union(*found.values()) - {cascade})
    return _table("PSNR, dB / SSIM", found, [*stages, cascade]) + _RECONSTRUCTION_NOTE


def _pairs(columns: Figures, unstylized: Figures) -> str:
    taps = list(unstylized["style_distance"])
    deepest = taps[:ADAIN_STAGE][-1]

    def cells(of: Figures) -> dict[str, str]:
        values = {f"style distance, {tap}": of["style_distance"][tap] for tap in taps} | {
            f"AdaIN's style loss, {taps[0]} to {deepest}": of["style_loss"],
            f"AdaIN's content loss, {deepest}": of["content_loss"],
            "content SSIM": of["content_ssim"],
        }
        return {name: f"{value:.4g}" for name, value in values.items()}

    found = {name: cells(of["stylized"]) if of["stylized"] else {} for name, of in columns.items()}
    found["content as it is"] = unchanged = cells(unstylized)
    return _table("", found, unchanged) + _PAIRS_NOTE


def _judged(models: Figures) -> str:
    taps = list(next(iter(models.values()))["rows"][0]["content"])[-2:]
    header = ["", "alpha", "gram", "sliced", *(f"content, {tap}" for tap in taps)]
    rows, equal = [], []
    for name, of in models.items():
        for row in of["rows"]:
            style = (sum(row[distance].values()) for distance in ("gram", "sliced"))
            values = [*style, *(row["content"][tap] for tap in taps)]
            rows.append([name, f"{row['alpha']:g}", *(f"{value:.3f}" for value in values)])
        ratios = of["at_equal_content"] or {"gram": None, "sliced": None}
        equal.append([name, *(number(ratio, ".3f") for ratio in ratios.values())])
    best = table(["at equal content, relative", "gram", "sliced"], equal)
    return f"{table(header, rows)}\n{best}{_JUDGED_NOTE}"


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
    for judge, of in results.get("judges", {}).items():
        sections[f"Style at equal content, in the features of {judge}"] = _judged(of)
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
_JUDGED_NOTE = """
Sums over the taps: gram |G - G'| / |G'| of the Gram matrices of result and style; sliced the sliced
Wasserstein distance relative to the style's variance. Content: correlation of instance-normalised
features with the content's. The last table interpolates each model between its alphas to where it
keeps as much content as the first model at its first alpha, and divides by that model's distances;
a dash where no two alphas enclose it.
"""
_PAIRS_NOTE = """
Alpha 1. Style distance: mean squared difference of Gram matrices (means over positions) of result
and style in the teacher's features. AdaIN's losses, of every model: mean squared differences of the
channels' means and deviations of result and style, summed over taps; of the features of the result
and those that AdaIN makes of content and style. Content SSIM: result against content.
"""
