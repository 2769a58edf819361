"""Progress on stderr: bars on a terminal, a line now and then in a log file."""

import sys
import time
from typing import Any, Self, TextIO

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.parser import printable
from cdjax.progress import Progress

_SECONDS = 30.0
"""Between two lines about the progress where no bar is drawn."""


def print_line(line: str, file: TextIO | None = None) -> None:
    """Prints a line to a file, by default stderr; on a terminal above the progress bars."""
    file = sys.stderr if file is None else file
    line = "\n".join(map(printable, line.split("\n")))
    if "tqdm" in sys.modules and _is_terminal():
        from tqdm import tqdm

        tqdm.write(line, file=file)
        file.flush()
    else:
        print(line, file=file, flush=True)


class ProgressBar:
    """An `OnProgress` that shows one task after another; to be used as a context.

    On a terminal it draws a bar. A report with another total, or with fewer units done, starts a
    new bar; another task with the same total only changes the name on the bar. Elsewhere it prints
    a line now and then. Messages are lines of their own; a report that counts nothing is only its
    message. After an interruption of `guard`, nothing is printed.

    Args:
        unit: name of the units, such as `"image"`.
        guard: under which everything is printed.
        keep: whether a finished bar stays on the screen, or a finished task has a line.
        quiet: whether only errors are printed.
        every: seconds between two lines where no bar is drawn; 0: a line for every finished unit.
    """

    def __init__(
        self,
        unit: str = "step",
        *,
        guard: InterruptGuard | None = None,
        keep: bool = False,
        quiet: bool = False,
        every: float = _SECONDS,
    ) -> None:
        self._unit, self._keep, self._quiet, self._every = unit, keep, quiet, every
        self._guard = guard or InterruptGuard()
        self._drawn = _is_terminal()
        self._printed, self._last = time.monotonic(), 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            if kind is KeyboardInterrupt:
                self._bar.disable = True  # "interrupted" is printed already, and comes last.
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        """Shows a report; raises `KeyboardInterrupt` if the guard was interrupted."""
        with self._guard.protected():
            if self._quiet:
                return
            if progress.message:
                print_line(progress.message)
            if progress.total is None and not progress.done:
                return
            if self._drawn:
                self._draw(progress)
            else:
                self._print(progress)

    def error(self, line: str) -> None:
        """Prints a line even if the bar is quiet; raises `KeyboardInterrupt` as a report does."""
        with self._guard.protected():
            print_line(line)

    def _print(self, progress: Progress) -> None:
        now = time.monotonic()
        due = now - self._printed >= self._every
        if progress.done != self._last and (
            due or (self._keep and progress.done == progress.total)
        ):
            self._printed = now
            total = f" of {progress.total:,}" if progress.total is not None else ""
            units = self._unit if self._unit == "px" else f"{self._unit}s"
            shown = "".join(f", {name} {value:.3g}" for name, value in progress.metrics.items())
            print_line(
                f"cdjax: {printable(progress.task)}: {progress.done:,}{total} {units}{shown}"
            )
        self._last = progress.done

    def _draw(self, progress: Progress) -> None:
        bar = self._bar
        if bar is None or bar.total != progress.total or bar.n > progress.done:
            if bar is not None:
                bar.close()
            self._bar = bar = self._new_bar(progress)
        bar.set_description(printable(progress.task), refresh=False)
        if progress.metrics:
            shown = {name: f"{value:.3g}" for name, value in progress.metrics.items()}
            bar.set_postfix(shown, refresh=False)
        bar.update(progress.done - bar.n)

    def _new_bar(self, progress: Progress) -> Any:
        from tqdm import tqdm

        bar: Any = tqdm(
            total=progress.total,
            # Of a run that is continued; what is done already does not count for the speed.
            initial=progress.done,
            desc=printable(progress.task),
            unit=self._unit,
            # Large numbers are shown in thousands and millions.
            unit_scale=progress.total is not None and progress.total >= 100_000,
            file=sys.stderr,
            leave=self._keep,
            dynamic_ncols=True,
        )
        # By tqdm's own clock, a bar stands still after the computer's clock was set back.
        bar._time = time.monotonic
        bar.start_t = bar.last_print_t = time.monotonic()
        return bar


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
