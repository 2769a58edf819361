"""Results as Markdown and JSON: the one table printer, and what the machine is."""

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

MISSING = "-"

Taken = Mapping[str, Mapping[str, Any] | str]
"""What was measured of each way of doing something; in words, why it was not."""
Value = Callable[[Mapping[str, Any]], float | None]


def say(line: str) -> None:
    """Prints a line about the progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned as numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def document(title: str, facts: Mapping[str, Any], sections: Mapping[str, str]) -> str:
    """A Markdown page: a title, a list of facts, and a text or table under each heading."""
    text = f"# {title}\n\n" + "".join(f"- {name}: {fact}\n" for name, fact in facts.items())
    return text + "".join(f"\n## {heading}\n\n{part}" for heading, part in sections.items())


def number(value: float | None, form: str = ",.0f", *, scale: float = 1) -> str:
    """A number in a table, divided by a scale; a dash for None."""
    return MISSING if value is None else format(value / scale, form)


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
        results: `title`; what `about` found; `settings`, facts by name; `first`, the heading of
            the rows' names; `names` of the ways, of which the first is what others are divided by;
            `note`; and `rows` by name: `taken`, of each way the `summary` of a worker or, in words,
            why it was not measured, and `figures`, numbers by heading.
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


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(names, platform.machine())


def about(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The command, the machine and the versions, for JSON."""
    return {
        "command": f"python -m {module} {shlex.join(arguments)}".strip(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in ("cdjax", "jax")},
    }


def facts(results: Mapping[str, Any]) -> dict[str, Any]:
    """What `about` found, in words, and the `settings` of a benchmark."""
    workers = results.get("workers", {})
    versions = results["versions"] | {
        f"{way} worker": f"{told['version']} on {told['device']}" for way, told in workers.items()
    }
    return {
        "command": f"`{results['command']}`",
        "machine": f"{results['processor']}, {results['cores']} cores, {results['system']}",
        "versions": ", ".join(f"{name} {of}" for name, of in versions.items()),
        **results["settings"],
    }


def as_json(results: Mapping[str, Any]) -> str:
    """Results as the text of a JSON file."""
    return json.dumps(results, indent=1, allow_nan=False) + "\n"
