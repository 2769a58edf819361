"""How long-running functions report progress: one value and one kind of callback."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """A report of work under way.

    Attributes:
        task: what is being done, such as `"stage 5"`; a new task starts a new progress bar.
        done: units of the task that are finished.
        total: units of the task; None where the number is not known.
        metrics: figures to show beside it, such as losses, by name.
        message: a line to print; empty if there is nothing to say.
    """

    task: str
    done: int = 0
    total: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


OnProgress = Callable[[Progress], None]
"""Called with every report, possibly from another thread."""


def ignore_progress(progress: Progress) -> None:
    """The default `on_progress`: does nothing."""
