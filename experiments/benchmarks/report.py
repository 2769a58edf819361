"""The Markdown of a comparison: tables of seconds and of peak memory."""

import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

from cdjax.cli.report import MISSING, document, facts, number, table

Value = Callable[[Mapping[str, Any]], float | None]


def say(line: str) -> None:
    """Prints a line about the progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def median(taken: Mapping[str, Any]) -> float:
    """Median seconds of a worker's `summary`."""
    return statistics.median(taken["seconds"])


def comparison(
    title: str, first: str, names: Mapping[str, str], note: str, settings: Mapping[str, str]
) -> dict[str, Any]:
    """What `report` takes, but for what `about` found, without rows yet."""
    about = {"title": title, "settings": dict(settings), "first": first}
    return {**about, "names": names, "note": note, "rows": {}}


def add_row(
    results: Mapping[str, Any], name: str, taken: Mapping[str, Any], figures: Any, **more: Any
) -> None:
    """Adds a row to what `report` takes, and prints its seconds to stderr."""
    results["rows"][name] = {"taken": taken, "figures": figures, **more}
    measured = {way: of for way, of in taken.items() if not isinstance(of, str)}
    say(f"{name}: " + ", ".join(f"{way} {median(of):.3g} s" for way, of in measured.items()))


def _seconds(taken: Mapping[str, Any]) -> str:
    low, high = min(taken["seconds"]), max(taken["seconds"])
    spread = "" if low == high else f" ({low:.3g} to {high:.3g})"
    return f"{median(taken):.3g}{spread}"


def report(results: Mapping[str, Any]) -> str:
    """The Markdown of a comparison: tables of seconds and of peak memory, the ratios first.

    Args:
        results: what `about` found; `title`; `settings`, facts by name; `first`, the heading of
            the rows' names; `names` of the ways, the first of which divides the others; `note`;
            and `rows` by name: `taken`, what was measured by way or, in words, why it was not, and
            `figures`, numbers or words by heading.
    """
    names, rows = results["names"], results["rows"]
    base, *others = names.values()
    figures = list(dict.fromkeys(name for row in rows.values() for name in row["figures"]))

    def compared(unit: str, value: Value, form: Callable[[Any], str], last: list[str]) -> str:
        heads = [f"{name} / {base}" for name in others]
        heads += [f"{name}, {unit}" for name in names.values()]
        lines = []
        for name, row in rows.items():
            found = [row["taken"].get(way, MISSING) for way in names]
            first, *above = (None if isinstance(of, str) else value(of) for of in found)
            ratios = (of / first if of and first else None for of in above)
            cells = [number(of, ".2f") for of in ratios]
            cells += [of if isinstance(of, str) else form(of) for of in found]
            also = (row["figures"].get(of) for of in last)
            cells += [of if isinstance(of, str) else number(of, ".4g") for of in also]
            lines.append([name, *cells])
        return table([results["first"], *heads, *last], lines)

    peaks = compared(
        "MiB", lambda of: of.get("peak"), lambda of: number(of.get("peak"), scale=2**20), []
    )
    sections = {
        "Seconds": compared("s", median, _seconds, figures),
        "Peak memory": f"{peaks}\n{results['note']}",
    }
    return document(results["title"], facts(results), sections)
