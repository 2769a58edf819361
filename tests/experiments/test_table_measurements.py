"""What is measured for the table, in which order; and the line of memory, on made-up peaks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Spec
from experiments import table_measurements
from experiments.measure import WorkerError
from experiments.table_measurements import Line, Peak, Taken, Ways, fit_line, measure_model
from tests.models import random_model

MODEL = random_model((Spec(1, (4,)),))
LIMIT = 12 * 10**9


def test_the_line_of_memory_is_that_of_made_up_peaks() -> None:
    peaks = [Peak(size, 3 * 10**8 + 700 * size**2) for size in (512, 717, 1024)]
    line = fit_line(peaks)
    assert line.base == pytest.approx(3e8)
    assert line.per_pixel == pytest.approx(700)
    assert line.residual < 1
    assert line.rise == pytest.approx(700 * (1024**2 - 512**2))
    assert line.largest_side(LIMIT) == 4080  # 4088.5, in whole positions of stage 5


def test_the_line_says_how_far_it_is_off() -> None:
    # 0, 1, 4 and 9 pixels: 10 + 2 x, with one peak 7 above.
    line = fit_line([Peak(side, 10 + 2 * side**2 + 7 * (side == 1)) for side in range(4)])
    slope, base = np.polyfit([0, 1, 4, 9], [10, 19, 18, 28], 1)
    assert (line.per_pixel, line.base) == pytest.approx((slope, base))
    assert line.residual == pytest.approx(19 - base - slope)


def test_a_line_that_does_not_rise_tells_no_size() -> None:
    assert fit_line([Peak(32, 500), Peak(64, 500)]).largest_side(LIMIT) is None
    assert fit_line([Peak(32, 500), Peak(64, 400)]).largest_side(LIMIT) is None
    assert Line(2.0 * LIMIT, 100.0, 0.0, 1e6).largest_side(LIMIT) == 0


def test_peaks_that_are_no_line_tell_no_size() -> None:
    # Measured of the 16x student, with a floor of 464 MB that hides what the pixels take.
    hidden = [Peak(256, 463_962_112), Peak(358, 467_316_736), Peak(512, 512_561_152)]
    line = fit_line(hidden)
    assert line.off > 0.1
    assert line.largest_side(LIMIT) is None
    # A peak that is off by a twentieth of the rise is still one of a line.
    near = Line(1e6, 100.0, 5e6, 1e8)
    assert near.off == pytest.approx(0.05)
    assert near.largest_side(LIMIT) == 10944


class Processes:
    """In the place of real ones: a hundred bytes a pixel and a million."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def compile(self, folder: Path, sizes: list[int], *_: Any) -> None:
        self.events.append(list(sizes))

    def run(self, folder: Path, size: int, *, runs: int, **_: Any) -> tuple[Peak, list[float], Any]:
        self.events.append((size, runs))
        about = {"platform": "cpu", "device": "made up"}
        return Peak(size, 10**6 + 100 * size**2), [1.0, 5.0, 2.0][:runs], about


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made_up = Processes()
    monkeypatch.setattr(table_measurements, "_compile", made_up.compile)
    monkeypatch.setattr(table_measurements, "_run", made_up.run)
    monkeypatch.setattr(table_measurements, "room", lambda _: LIMIT)
    return made_up


def measure(folder: Path, *, limit: int = LIMIT, verify: bool = True) -> tuple[Taken, list[str]]:
    lines: list[str] = []
    ways = Ways(64, (32, 48), 3, "float32", limit, verify)
    return measure_model(folder, MODEL, ways, say=lines.append), lines


def test_everything_is_compiled_before_and_timed_at_one_size(
    tmp_path: Path, processes: Processes
) -> None:
    taken, lines = measure(tmp_path, verify=False)
    assert processes.events == [[32, 48, 64], (32, 0), (48, 0), (64, 3)]
    assert taken.seconds == (1.0, 5.0, 2.0)
    assert taken.median == 2
    assert taken.peak(48) == 10**6 + 100 * 48**2
    assert taken.device == "made up"
    assert taken.verified is None
    assert lines[2] == "64 pixels, 2 s, peak 1 MB"
    assert (tmp_path / "checkpoint").is_dir()


def test_the_largest_image_is_really_made_where_asked(tmp_path: Path, processes: Processes) -> None:
    taken, _ = measure(tmp_path)
    largest = 10944  # The root of 119,990,000, in multiples of 16.
    assert taken.largest == largest
    assert processes.events[-2:] == [[largest], (largest, 0)]
    assert taken.verified == Peak(largest, 10**6 + 100 * largest**2)


def test_why_the_largest_image_was_not_made(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, _ = measure(tmp_path, limit=LIMIT + 1)
    assert taken.verified == "not run: 12.0 GB are free for it"
    taken, _ = measure(tmp_path, limit=10)
    assert (taken.largest, taken.verified) == (0, "no size to run")

    def fail(folder: Path, size: int, **options: Any) -> Any:
        if size > 64:
            raise WorkerError("the cdjax worker ended with -9")
        return processes.run(folder, size, **options)

    monkeypatch.setattr(table_measurements, "_run", fail)
    taken, _ = measure(tmp_path)
    assert taken.verified == "failed: the cdjax worker ended with -9"
