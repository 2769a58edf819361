"""The report of a distillation, made from the logs and pictures in its folder."""

import io
import json
from pathlib import Path

from cdjax.cli.report import document, table
from cdjax.distillation.config import STAGE_PHASES, DistillationConfig
from cdjax.io.atomic import write_bytes, write_text

_LOSSES = ("loss", "embedding", "pixel", "perceptual", "content", "style", "sliced")
_AVERAGED = 20


def read_log(path: Path) -> list[dict[str, float]]:
    """The records of a phase by step; of a step that was repeated, the last."""
    records: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # The last line of a run that was killed.
        records[int(record["step"])] = record
    return [records[step] for step in sorted(records)]


def _curves(records: list[dict[str, float]], path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    steps = [record["step"] for record in records]
    for name in _LOSSES:
        if name in records[0]:
            axes.plot(steps, [record[name] for record in records], label=name, linewidth=1)
    axes.set(xlabel="step", yscale="log", title=title)
    axes.legend()
    # Into memory, because encoders that write to a file may not notice that the disk is full.
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=100)
    write_bytes(path, encoded.getvalue())


def _mean(records: list[dict[str, float]], name: str) -> float:
    values = [record[name] for record in records if name in record]
    return sum(values) / len(values) if values else float("nan")


def _row(title: str, records: list[dict[str, float]]) -> list[str]:
    first, last = records[:_AVERAGED], records[-_AVERAGED:]
    losses = (
        f"{_mean(first, name):.4g} -> {_mean(last, name):.4g}" if name in records[0] else ""
        for name in _LOSSES
    )
    speed = _mean(records, "images_per_second")
    return [title, f"{records[-1]['step']:.0f}", *losses, f"{speed:.3g}"]


def write_report(folder: Path, recipe: DistillationConfig) -> Path:
    """Writes `report.md`, and a picture of the losses beside each phase's log; returns its path."""
    rows, sections = [], {}
    parts = [f"stage{stage}/{phase}" for stage in sorted(recipe.stages) for phase in STAGE_PHASES]
    for title in (*parts, "student_transfer"):
        log = folder / title / "log.jsonl"
        if records := read_log(log) if log.is_file() else []:
            rows.append(_row(title, records))
            losses = log.with_name("losses.png")
            _curves(records, losses, title)
            pictures = [losses, *sorted(log.parent.glob("pictures/*.png"))[-1:]]
            links = (f"![{of.stem}]({of.relative_to(folder).as_posix()})\n" for of in pictures)
            sections[title] = "\n".join(links)
    if rows:
        note = f"\nLosses are means over the first and the last {_AVERAGED} records.\n"
        head = ["phase", "steps", *_LOSSES, "images/s"]
        sections = {"Losses": table(head, rows) + note} | sections
    sections["Configuration"] = f"```json\n{json.dumps(recipe.to_json(), indent=2)}\n```\n"
    start = recipe.start
    facts = {
        "teacher": recipe.teacher,
        "images": images_of(recipe),
        "start": f"{start.origin} from {start.images} crops of {start.crop} pixels",
        "model": "`model/`",
    }
    path = folder / "report.md"
    write_text(path, document(f"Distillation for {recipe.method}", facts, sections))
    return path


def images_of(recipe: DistillationConfig) -> str:
    """Which images a recipe is trained on, for a line of text."""
    data = f"data {recipe.data.source}"
    return data if recipe.method == "wct" else f"{data}, styles {recipe.styles.source}"
