"""The Markdown of a comparison: tables of seconds and of peak memory."""

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cdjax.cli.report import MISSING, document, facts, number, table

Taken = Mapping[str, Mapping[str, Any] | str]
"""What was measured of each way of doing something; in words, why it was not."""
Value = Callable[[Mapping[str, Any]], float | None]


def say(line: str) -> None:
    """Prints a line about the progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def median(taken: Mapping[str, Any]) -> float:
    """Median seconds of a worker's `summary`."""
    return statistics.median(taken["seconds"])


def _seconds(taken: Mapping[str, Any]) -> str:
    low, high = min(taken["seconds"]), max(taken["seconds"])
    spread = "" if low == high else f" ({low:.3g} to {high:.3g})"
    return f"{median(taken):.3g}{spread}"


def report(results: Mapping[str, Any]) -> str:
    """The Markdown of a comparison: tables of seconds and of peak memory, the ratios first.

    Args:
        results: what `about` found; `title`; `settings`, facts by name; `first`, the heading of
            the rows' names; `names` of the ways, the first of which divides the others; `note`;
            and `rows` by name: `taken`, and `figures`, numbers by heading.
    """
    base, *others = names = results["names"]
    rows = results["rows"]
    figures = list(dict.fromkeys(name for row in rows.values() for name in row["figures"]))

    def cells(taken: Taken, value: Value, form: Callable[[Any], str]) -> Iterator[str]:
        found = {way: taken.get(way, MISSING) for way in names}
        values = {way: None if isinstance(of, str) else value(of) for way, of in found.items()}
        for way in others:
            above, below = values[way], values[base]
            yield f"{above / below:.2f}" if above and below else MISSING
        for of in found.values():
            yield of if isinstance(of, str) else form(of)

    def compared(unit: str, value: Value, form: Callable[[Any], str], last: list[str]) -> str:
        ratios = (f"{names[way]} / {names[base]}" for way in others)
        header = [results["first"], *ratios, *(f"{name}, {unit}" for name in names.values()), *last]
        shown = {name: list(cells(row["taken"], value, form)) for name, row in rows.items()}
        for name, row in rows.items():
            shown[name] += [number(row["figures"].get(key), ".4g") for key in last]
        return table(header, ([name, *of] for name, of in shown.items()))

    peaks = compared(
        "MiB", lambda of: of.get("peak"), lambda of: number(of.get("peak"), scale=2**20), []
    )
    sections = {
        "Seconds": compared("s", median, _seconds, figures),
        "Peak memory": f"{peaks}\n{results['note']}",
    }
    return document(results["title"], facts(results), sections)
