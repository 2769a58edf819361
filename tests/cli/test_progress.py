"""Progress: the bar on a terminal, lines elsewhere."""

import re
import sys
import time

import pytest

from cdjax.cli.interrupts import InterruptGuard, run_interruptibly
from cdjax.cli.progress import ProgressBar, print_line
from cdjax.progress import Progress


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes standard error a terminal."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def lines(text: str) -> list[str]:
    """What stood on the screen last of every line."""
    return [line.rpartition("\r")[2] for line in text.split("\n")]


def test_a_bar_counts_and_shows_metrics(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    with ProgressBar("image", keep=True) as bar:
        for done in range(4):
            bar(Progress("photographs", done, 3, {"loss": 1 / (done + 1)}))
    err = lines(capsys.readouterr().err)
    assert re.match(r"photographs: 100%\|.*\| 3/3 \[.*, loss=0.25\]", err[0])
    assert err[1:] == [""]


def test_another_total_starts_a_bar_and_another_task_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    reports = [("a", 1, 2), ("a, second part", 2, 2), ("b", 0, 2), ("b", 2, 2), ("c", 5, 5)]
    with ProgressBar(keep=True) as bar:
        for report in reports:
            bar(Progress(*report))
        bar(Progress("only a message"))
    shown = [line.partition(":")[0] for line in lines(capsys.readouterr().err) if line]
    assert shown == ["a, second part", "b", "c"]


def test_a_bar_goes_on_when_the_clock_is_set_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    clock = [time.time()]
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    with ProgressBar() as bar:
        bar(Progress("photographs", 0, 3))
        clock[0] = 0.0
        time.sleep(0.15)
        bar(Progress("photographs", 2, 3))
        assert "2/3" in capsys.readouterr().err


def test_a_message_stands_above_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    with ProgressBar(keep=True) as bar:
        bar(Progress("photographs", 1, 3, message="old"))
        bar.error("cdjax: error: a.png: broken image")
        print_line('{"status": "failed"}', sys.stdout)
    out, err = capsys.readouterr()
    assert out == '{"status": "failed"}\n'
    assert "cdjax: error: a.png: broken image" in lines(err)


def test_where_no_bar_is_there_are_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBar("image", every=0) as bar:
        bar(Progress("a.png", 0, 1200))
        bar(Progress("a.png", 1, 1200, message="cdjax: error: a.png: broken image"))
        bar(Progress("b.png", 1, 1200))
        bar(Progress("b\n\x1b.png", 2, 1200, {"loss": 0.25}))
        bar(Progress("model", message="done"))
    with ProgressBar("px") as bar:
        bar(Progress("c.png", 1, 3))
        bar(Progress("c.png", 3, 3))
    with ProgressBar("px", keep=True) as bar:
        bar(Progress("d.png", 1, 3))
        bar(Progress("d.png", 3, 3))
    assert capsys.readouterr().err.splitlines() == [
        "cdjax: error: a.png: broken image",
        "cdjax: a.png: 1 of 1,200 images",
        r"cdjax: b\n\x1b.png: 2 of 1,200 images, loss 0.25",
        "done",
        "cdjax: d.png: 3 of 3 px",
    ]


def test_a_quiet_bar_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(every=0, quiet=True) as bar:
        bar(Progress("a.png", 1, 2, message="resumed"))
        bar.error("cdjax: error: \x1b[2J\udcff.png")
    assert capsys.readouterr().err == "cdjax: error: \\x1b[2J\\udcff.png\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_is_drawn_after_an_interruption(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    pretend_terminal(monkeypatch)
    guard = InterruptGuard()

    def interrupted() -> None:
        with ProgressBar(guard=guard, quiet=quiet) as bar:
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
