"""The Markdown that `experiments.evaluate` prints."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdjax.evaluation.compare import FLOPS_SIZE, Comparison, Evaluation, Photographs
from cdjax.evaluation.image_quality import ADAIN_STAGE, Quality, Stylized

_NONE = "-"


@dataclass(frozen=True)
class Measured:
    """What was measured, and how.

    Attributes:
        options: of the command.
        command: as it was typed.
        photographs: `"fit"`, `"test"` and perhaps `"styles"`.
        pairs: how many were stylised.
        comparison: what came out.
        stored: bytes of the files of each model; None where there are none of its own.
        teacher_stored: the same of the teacher.
        normalized: whether the teacher was normalised on the photographs to fit.
    """

    options: argparse.Namespace
    command: str
    photographs: dict[str, Photographs]
    pairs: int
    comparison: Comparison
    stored: dict[str, int | None]
    teacher_stored: int | None
    normalized: bool


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _megabytes(count: int | None) -> str:
    return _NONE if count is None else f"{count / 1e6:.2f}"


def _quality(quality: Quality | None) -> str:
    return f"{quality.psnr:.1f} / {quality.ssim:.3f}" if quality else _NONE


def _sizes(measured: Measured) -> str:
    comparison = measured.comparison
    results = [*comparison.models.values(), comparison.teacher]
    stored = [*measured.stored.values(), measured.teacher_stored]

    def row(name: str, value: Callable[[Evaluation], str]) -> list[str]:
        return [name, *(value(result) for result in results)]

    def flops(result: Evaluation) -> str:
        return _NONE if result.size.gflops is None else f"{result.size.gflops:,.0f}"

    rows = [
        row("method", lambda r: r.config.method),
        row("features of", lambda r: r.config.teacher),
        row("stages", lambda r: " ".join(str(spec.stage) for spec in r.config.specs)),
        row("parameters", lambda r: f"{r.size.parameters:,}"),
        row("embeddings, parameters", lambda r: f"{r.size.embedding_parameters:,}"),
        row("float32, MB", lambda r: _megabytes(r.size.float32_bytes)),
        ["files as stored, MB", *map(_megabytes, stored)],
        row(f"GFLOP at {FLOPS_SIZE}x{FLOPS_SIZE}", flops),
    ]
    return _table(["", *comparison.models, "teacher"], rows)


def _unexplained(comparison: Comparison) -> str:
    models = comparison.models
    places = {
        (stage, tap): None
        for model in models.values()
        for stage, taps in model.unexplained.get("affine", {}).items()
        for tap in taps
    }

    def cell(model: Evaluation, stage: int, tap: str) -> str:
        values = (
            model.unexplained.get(form, {}).get(stage, {}).get(tap) for form in ("affine", "relu")
        )
        return " / ".join(_NONE if value is None else f"{value:.3f}" for value in values)

    rows = [
        [f"stage {stage}, {tap}", *(cell(model, stage, tap) for model in models.values())]
        for stage, tap in sorted(places)
    ]
    return _table(["affine / relu", *models], rows)


def _reconstructions(comparison: Comparison) -> str:
    results = [*comparison.models.values(), comparison.teacher]
    stages = sorted({stage for result in results for stage in result.reconstruction})
    rows = [
        [f"stage {stage}", *(_quality(result.reconstruction.get(stage)) for result in results)]
        for stage in stages
    ]
    rows.append(["cascade, alpha 0", *(_quality(result.cascade) for result in results)])
    return _table(["PSNR, dB / SSIM", *comparison.models, "teacher"], rows)


def _pairs(comparison: Comparison) -> str:
    unstylized = comparison.unstylized
    assert unstylized is not None
    results = [r.stylized for r in [*comparison.models.values(), comparison.teacher]]
    results.append(unstylized)

    def row(name: str, value: Callable[[Stylized], float]) -> list[str]:
        return [name, *(_NONE if result is None else f"{value(result):.4g}" for result in results)]

    rows = [
        row(f"style distance, {tap}", lambda r, tap=tap: r.style_distance[tap])  # type: ignore[misc]
        for tap in unstylized.style_distance
    ]
    taps = list(unstylized.style_distance)[:ADAIN_STAGE]
    rows.append(row(f"AdaIN's style loss, {taps[0]} to {taps[-1]}", lambda r: r.style_loss))
    rows.append(row(f"AdaIN's content loss, {taps[-1]}", lambda r: r.content_loss))
    rows.append(row("content SSIM", lambda r: r.content_ssim))
    return _table(["", *comparison.models, "teacher", "content as it is"], rows)


def report(measured: Measured) -> str:
    """The Markdown that says what was measured, how and on what."""
    options, photographs = measured.options, measured.photographs
    comparison = measured.comparison
    results = list(comparison.models.values())
    counts = {name: len(part.images) for name, part in photographs.items()}
    fit = f"{counts['fit']} of {options.fit_images or options.images}"
    normalized = ", normalised on the photographs to fit" if measured.normalized else ""
    skipped = [line for part in photographs.values() for line in part.skipped]
    text = f"""# Evaluation

- command: `{measured.command}`
- teacher: {options.teacher} ({comparison.teacher.config.teacher}){normalized}
- photographs: measured on {counts["test"]} of {options.images}; embeddings fitted on {fit}; central
  squares of {options.size} pixels, the shorter side scaled to that
- images skipped as broken: {len(skipped)}{f" ({skipped[0]})" if skipped else ""}

## Size

{_sizes(measured)}
Parameters are those of encoders (conv0 included) and decoders; embeddings serve training alone.
Files hold what was saved: every stage, and embeddings too. GFLOP count a stylisation: of every
stage the encoder for content and style and the decoder once, two operations a multiply-accumulate
of the 3x3 convolutions.
"""
    if any(result.unexplained for result in results):
        text += f"""
## Share of the teacher's variance that is not explained

{_unexplained(comparison)}
|F - e(F')|^2 / |F - mean F|^2 with the best embedding e of the student's features F' in the
teacher's F: affine, and a ReLU behind it.
"""
    if any(result.cascade for result in [*results, comparison.teacher]):
        text += f"""
## Reconstruction

{_reconstructions(comparison)}
Means over images of decoder(encoder(image)) against the image.
"""
        if any(result.config.method == "adain" for result in [*results, comparison.teacher]):
            text += "Of AdaIN, trained for transfer and not for this, it is what alpha 0 gives.\n"

    if comparison.unstylized:
        text += f"""
## Stylised pairs

{_pairs(comparison)}
{measured.pairs} pairs of {counts["test"]} photographs and {counts["styles"]} styles of
{options.styles}, alpha 1. Style distance: mean squared difference of Gram matrices (means over
positions) of result and style in the teacher's features. AdaIN's losses, those that it is trained
with and measured of every model: mean squared differences of the channels' means and deviations of
result and style, summed over taps; of the features of the result and those that AdaIN makes of
content and style. Content SSIM: result against content.
"""
    cascades = {tuple(s.stage for s in r.config.specs) for r in results if r.cascade}
    if comparison.teacher.cascade:
        cascades.add(tuple(spec.stage for spec in comparison.teacher.config.specs))
    if len(cascades) > 1:
        text += (
            "\nThe cascades run different stages and do not compare; `--stages` takes those "
            "that all have.\n"
        )
    return text
