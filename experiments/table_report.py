"""The Markdown and the JSON of `experiments.evaluate --table`."""

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from cdjax.evaluation.compare import FLOPS_SIZE
from experiments.benchmark_report import processor, table
from experiments.table_measurements import Peak, Taken, Ways
from experiments.table_rows import Pair, Row

_NONE = "-"


@dataclass(frozen=True)
class Table:
    """All that was found out.

    Attributes:
        command: as it was typed.
        pairs: the rows, two by two.
        ways: how they were measured; None if they were only counted.
        left_out: models that are not in it, with the reason.
        notes: lines on the picture sheet.
        sheet: file of the picture sheet.
    """

    command: str
    pairs: tuple[Pair, ...]
    ways: Ways | None
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()
    sheet: str | None = None


def _number(value: float | None, scale: float = 1, form: str = ",.0f") -> str:
    return _NONE if value is None else format(value / scale, form)


def _values(row: Row, ways: Ways | None) -> list[float | None]:
    """The numbers of a row, in the order of the table."""
    taken = row.taken
    largest = taken.largest if taken else None
    return [
        row.parameters,
        row.float32_bytes,
        row.stored_bytes,
        row.gflops,
        taken.median if taken else None,
        taken.peak(ways.size) if taken and ways else None,
        None if largest is None else largest**2,
    ]


_SHOWN: tuple[Callable[[float | None], str], ...] = (
    _number,
    lambda value: _number(value, 1e6, ",.2f"),
    lambda value: _number(value, 1e6, ",.2f"),
    _number,
    lambda value: _number(value, 1, ".3g"),
    lambda value: _number(value, 1e6),
    lambda value: _number(value, 1e6, ",.1f"),
)


def _header(ways: Ways | None) -> list[str]:
    at, limit = ("", "") if ways is None else (f" at {ways.size}x{ways.size}", _limit(ways))
    return [
        "",
        "method, stages",
        "weights",
        "parameters",
        "float32, MB",
        "files, MB",
        f"GFLOP at {FLOPS_SIZE}x{FLOPS_SIZE}",
        *(
            []
            if ways is None
            else [f"s{at}", f"peak{at}, MB", f"largest under {limit}, megapixels"]
        ),
    ]


def _limit(ways: Ways) -> str:
    return f"{ways.limit / 1e9:g} GB"


def _what(row: Row) -> str:
    return f"{row.method}, {' '.join(str(spec.stage) for spec in row.specs)}"


def _rows(pair: Pair, ways: Ways | None) -> list[list[str]]:
    shown = len(_header(ways)) - 3
    rows = []
    for row in (pair.original, pair.compressed):
        weights = "trained" if row.trained else "random"
        cells = [form(value) for form, value in zip(_SHOWN, _values(row, ways), strict=True)]
        rows.append([row.name, _what(row), weights, *cells[:shown]])
    ratios = [_number(ratio, 1, ".2f") for ratio in ratios_of(pair, ways)]
    return [*rows, ["**ratio**", "", "", *ratios[:shown]]]


def ratios_of(pair: Pair, ways: Ways | None) -> list[float | None]:
    """The original's number over the compressed model's, of every column; None where one lacks."""
    numbers = (_values(row, ways) for row in (pair.original, pair.compressed))
    return [
        above / below if above is not None and below else None
        for above, below in zip(*numbers, strict=True)
    ]


def _fits(rows: Sequence[Row], ways: Ways) -> str:
    sizes = sorted({ways.size, *ways.fit_sizes})
    header = ["", *(f"peak at {size}, MB" for size in sizes), "without pixels, MB"]
    header += ["bytes a pixel", "off the line", "largest side", "really run"]
    lines = []
    for row in rows:
        if (taken := row.taken) is None:
            continue
        cells = [_number(taken.peak(size), 1e6) for size in sizes]
        line = taken.line
        off = f"{line.residual / 1e6:,.0f} MB" + (f", {line.off:.0%}" if line.off < 10 else "")
        cells += [_number(line.base, 1e6), _number(line.per_pixel), off]
        lines.append(
            [
                f"{row.name} ({_what(row)})",
                *cells,
                _number(taken.largest, 1, ".0f"),
                _verified(taken),
            ]
        )
    return table(header, lines)


def _verified(taken: Taken) -> str:
    match taken.verified:
        case Peak() as peak:
            return f"{peak.bytes / 1e6:,.0f} MB at {peak.size}"
        case None:
            return "no"
        case why:
            return why.replace("|", "/")


def _distinct(pairs: Sequence[Pair]) -> list[Row]:
    """Every row once: models may share an original."""
    return list(dict.fromkeys(row for pair in pairs for row in (pair.original, pair.compressed)))


def markdown(result: Table) -> str:
    """The table as Markdown, with what a reader must know of its numbers."""
    ways = result.ways
    rows = [line for pair in result.pairs for line in _rows(pair, ways)]
    text = f"""# Original and compressed

- command: `{result.command}`
- machine: {_machine(result)}

{table(_header(ways), rows)}
Ratio: the original's number over the compressed model's. An original is the same method with the
same stages at VGG's widths. Weights said to be random are an original's that nobody trained; time
and memory do not depend on them. Parameters are those of encoders (conv0 included) and decoders;
files hold embeddings too, and may be of half precision. GFLOP: two operations a multiply-accumulate
of the 3x3 convolutions; of every stage the encoder for content and style and the decoder once.
"""
    if any(pair.compressed.method == "gatys" for pair in result.pairs):
        text += """Gatys: the encoder alone; GFLOP and seconds are those of one step of Adam, in
float32: the losses, and their gradient by the image, which takes as many operations again.
"""
    if ways:
        kinds = {row.taken.platform for row in _distinct(result.pairs) if row.taken}
        memory = (
            "resident memory of a process" if kinds == {"cpu"} else "device memory of a process"
        )
        text += f"""Seconds: {ways.dtype}, content and style of one size, programs compiled before;
median of {ways.runs} run(s) after a warm-up. Peak: {memory} that makes one image, compiler
left out.

## Largest image under {_limit(ways)}

{_fits(_distinct(result.pairs), ways)}
A prediction: the measured peaks' least-squares line in pixels, taken to the limit, for content and
style of one size, whole, with the C library's own allocator. There is none where a peak is off the
line by more than a tenth of its rise; larger `--fit-sizes` may tell then. "Really run" says where
it was tried (`--verify`). Windows (`cdjax.stylize_by_windows`, and `cdjax stylize` by itself for
pictures that are too large) have no such limit.
"""
    if result.left_out:
        lines = "".join(f"- {name}: {why}\n" for name, why in result.left_out.items())
        text += f"\n## Left out\n\n{lines}"
    if result.sheet:
        notes = "".join(f"- {note}\n" for note in result.notes)
        text += f"\n## Pictures\n\n![contents, styles and results]({result.sheet})\n\n{notes}"
    return text


def _machine(result: Table) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("cdjax", "jax"))
    devices = {row.taken.device for row in _distinct(result.pairs) if row.taken}
    device = f", JAX on {' and '.join(sorted(devices))}" if devices else ""
    return f"{processor()}, {os.cpu_count()} cores{device}; {versions}"


def figures(result: Table) -> dict[str, Any]:
    """Everything as JSON."""
    pairs = [
        dataclasses.asdict(pair)
        | {"ratios": dict(zip(_NAMES, ratios_of(pair, result.ways), strict=True))}
        for pair in result.pairs
    ]
    return {
        "command": result.command,
        "versions": {name: version(name) for name in ("cdjax", "jax")}
        | {"python": platform.python_version()},
        "processor": processor(),
        "cores": os.cpu_count(),
        "ways": result.ways and dataclasses.asdict(result.ways),
        "pairs": pairs,
        "left_out": result.left_out,
        "notes": result.notes,
    }


_NAMES = (
    "parameters",
    "float32_bytes",
    "stored_bytes",
    "gflops",
    "seconds",
    "peak_bytes",
    "largest_pixels",
)
