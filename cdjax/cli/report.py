"""Tables and figures of reports: plain text, Markdown and JSON, and what the machine is."""

import json
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

MISSING = "-"
"""Stands in a table for a number that does not exist."""


def aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table for a terminal, two spaces between columns; those in `right` are aligned there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


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


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(names, platform.machine())


def about(program: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The command, such as `cdjax evaluate` with its arguments, the machine and the versions."""
    return {
        "command": f"{program} {shlex.join(arguments)}".strip(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in ("cdjax", "jax")},
    }


def facts(results: Mapping[str, Any]) -> dict[str, Any]:
    """What `about` found, in words, and the `settings` of a measurement."""
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
    """Results as the text of a JSON file; numbers that are not finite become null."""
    finite = json.loads(json.dumps(results), parse_constant=lambda _: None)
    return json.dumps(finite, indent=1) + "\n"
