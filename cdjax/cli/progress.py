"""Progress bars on stderr, drawn from the reports of `cdjax.progress`."""

import sys
from typing import Any, Self

from cdjax.cli.interrupts import InterruptGuard
from cdjax.progress import Progress


class ProgressBar:
    """An `OnProgress` that draws one bar after another; to be used as a context.

    A report with another total, or with fewer units done, starts a new bar; another task with the
    same total only changes the name on the bar. Messages are printed above the bar; a report that
    counts nothing is only its message. After an interruption of `guard`, nothing is printed.

    Args:
        unit: name of the units, such as `"image"`.
        guard: under which everything is printed.
        show: whether to draw bars; None: only on a terminal. Messages are always printed.
        keep: whether a finished bar stays on the screen.
    """

    def __init__(
        self,
        unit: str = "step",
        *,
        guard: InterruptGuard | None = None,
        show: bool | None = None,
        keep: bool = False,
    ) -> None:
        self._unit, self._keep = unit, keep
        self._guard = guard or InterruptGuard()
        self._hidden = None if show is None else not show
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
        from tqdm import tqdm

        with self._guard.protected():
            if progress.message:
                tqdm.write(progress.message, file=sys.stderr)
            if progress.total is not None or progress.done:
                self._draw(progress)

    def _draw(self, progress: Progress) -> None:
        from tqdm import tqdm

        bar = self._bar
        if bar is None or bar.total != progress.total or bar.n > progress.done:
            if bar is not None:
                bar.close()
            self._bar = bar = tqdm(
                total=progress.total,
                # Of a run that is continued; what is done already does not count for the speed.
                initial=progress.done,
                desc=progress.task,
                unit=self._unit,
                # Large numbers are shown in thousands and millions.
                unit_scale=progress.total is not None and progress.total >= 100_000,
                file=sys.stderr,
                disable=self._hidden,
                leave=self._keep,
                dynamic_ncols=True,
            )
        bar.set_description(progress.task, refresh=False)
        if progress.metrics:
            shown = {name: f"{value:.3g}" for name, value in progress.metrics.items()}
            bar.set_postfix(shown, refresh=False)
        bar.update(progress.done - bar.n)
