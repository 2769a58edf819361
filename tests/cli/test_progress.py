"""The progress bar: what it draws of a series of reports."""

import re

import pytest

from cdjax.cli.interrupts import InterruptGuard, run_interruptibly
from cdjax.cli.progress import ProgressBar
from cdjax.progress import Progress


def lines(text: str) -> list[str]:
    """What stood on the screen last of every line."""
    return [line.rpartition("\r")[2] for line in text.split("\n")]


def test_a_bar_counts_and_shows_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("image", show=True, keep=True) as bar:
        for done in range(4):
            bar(Progress("photographs", done, 3, {"loss": 1 / (done + 1)}))
    err = lines(capsys.readouterr().err)
    assert re.match(r"photographs: 100%\|.*\| 3/3 \[.*, loss=0.25\]", err[0])
    assert err[1:] == [""]


def test_another_total_starts_a_bar_and_another_task_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reports = [("a", 1, 2), ("a, second part", 2, 2), ("b", 0, 2), ("b", 2, 2), ("c", 5, 5)]
    with ProgressBar(show=True, keep=True) as bar:
        for report in reports:
            bar(Progress(*report))
        bar(Progress("only a message"))
    shown = [line.partition(":")[0] for line in lines(capsys.readouterr().err) if line]
    assert shown == ["a, second part", "b", "c"]


def test_messages_are_printed_where_no_bar_is(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as bar:  # Not a terminal.
        bar(Progress("photographs", 1, 3, message="cdjax: error: a.png: broken image"))
        bar(Progress("model", message="done"))
    assert capsys.readouterr().err == "cdjax: error: a.png: broken image\ndone\n"


def test_nothing_is_drawn_after_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    guard = InterruptGuard()

    def interrupted() -> None:
        with ProgressBar(guard=guard, show=True) as bar:
            bar(Progress("photographs", 1, 3))
            guard.interrupt()
            capsys.readouterr()
            bar(Progress("photographs", 2, 3))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == ""


def test_results_and_errors_of_interruptible_work_come_back() -> None:
    assert run_interruptibly(lambda guard: guard.protected() is not None)
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda guard: 1 / 0)
