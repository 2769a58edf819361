"""Constant frame rates from the times of frames."""

from collections.abc import Sequence
from fractions import Fraction

import pytest

from cdjax.errors import VideoError
from cdjax.video.rate import at_constant_rate, choose_rate


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0.0, 0.04, 0.08], [("a", 1), ("b", 1), ("c", 1)]),
        ([5.001, 5.039, 5.081], [("a", 1), ("b", 1), ("c", 1)]),  # Rounded to milliseconds.
        ([0.0, 0.16, 0.2], [("a", 4), ("b", 1), ("c", 1)]),
        ([0.0, 0.025, 0.095], [("a", 1), ("b", 1), ("c", 1)]),  # Uneven.
        ([0.0, 0.005, 0.01], [("a", 1), ("b", 1)]),  # Too many at once.
        ([0.0, 0.04, 0.02], [("a", 1), ("b", 1)]),  # Out of order.
        ([None, None, None], [("a", 1), ("b", 1), ("c", 1)]),
        ([1.0, None, 1.08], [("a", 1), ("b", 1), ("c", 1)]),
        ([7.0], [("a", 1)]),
        ([], []),
    ],
)
def test_frames_go_to_the_nearest_position(
    times: Sequence[float | None], shown: Sequence[tuple[str, int]]
) -> None:
    exact = [None if time is None else Fraction(time).limit_denominator(1000) for time in times]
    named = zip(exact, "abc", strict=False)
    assert list(at_constant_rate(named, Fraction(25))) == shown


def test_a_pause_without_end_is_refused() -> None:
    with pytest.raises(VideoError, match=r"no frame for 1000000 s after 0\.0 s"):
        list(at_constant_rate([(Fraction(0), 0), (Fraction(10**6), 1)], Fraction(25)))


def test_the_rate_is_that_which_fits_the_times() -> None:
    times = [Fraction(round(1000 * i / 30), 1000) for i in range(60) if i % 7]
    average, absurd = Fraction(511, 20), Fraction(90_000)
    assert choose_rate(times, [average, absurd, Fraction(30)]) == 30
    assert choose_rate(times[:1], [None, None]) == 25
