"""A constant frame rate from the times at which frames are shown."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import TypeVar

from cdjax.errors import VideoError

_T = TypeVar("_T")

_FALLBACK = Fraction(25)
_FASTEST = 240  # frames a second; what claims more has no rate
_LONGEST_PAUSE = 600  # seconds that a single frame may be shown
_EARLY, _LATE = Fraction(11, 10), Fraction(6, 10)
"""How many positions a frame may be shown after or before its time. More than half of one, so that
times that vary by less do not leave out a frame here and repeat one there."""

Times = Sequence[Fraction | None]
"""The seconds at which frames are shown, in order; None: one frame after the one before."""


def choose_rate(times: Times, candidates: Iterable[Fraction | None]) -> Fraction:
    """The constant rate of a film, in frames a second.

    Args:
        times: of all its frames.
        candidates: what its file says or libav guesses, the most likely first.

    Returns:
        The candidate that fits the times best; 25 if there is none.
    """
    rates = [rate for rate in candidates if rate and rate <= _FASTEST]
    return min(rates, key=partial(_misfit, times), default=_FALLBACK)


def _misfit(times: Times, rate: Fraction) -> float:
    """The mean distance from positions, in positions; 1 for each frame that is left out."""
    errors, following, begin = [0.0], 1, times[0] if times else None
    for seconds in times[1:]:
        exact = _exact(seconds, begin, rate, following)
        position = _position(exact, following)
        errors.append(1.0 if position is None else abs(float(exact - position)))
        following = following if position is None else position + 1
    return sum(errors) / len(errors)


def _exact(
    seconds: Fraction | None, begin: Fraction | None, rate: Fraction, following: int
) -> Fraction:
    """Where a frame belongs, in positions behind the first one."""
    return Fraction(following) if seconds is None else (seconds - (begin or 0)) * rate


def _position(exact: Fraction, following: int) -> int | None:
    """The position of a frame that can have the following one at the earliest; None: no place."""
    if exact < following - _EARLY:
        return None
    return following if exact <= following + _LATE else round(exact)


def count_changes(times: Times, rate: Fraction) -> tuple[int, int]:
    """How many frames a constant rate leaves out, and how many it adds; errors as below."""
    shown = [positions for _, positions in at_constant_rate([(t, t) for t in times], rate)]
    return len(times) - len(shown), sum(shown) - len(shown)


def at_constant_rate(
    frames: Iterable[tuple[Fraction | None, _T]], rate: Fraction
) -> Iterator[tuple[_T, int]]:
    """How often every frame is shown at a constant rate.

    A frame is shown again where the next one comes later, and left out where several come at once.

    Args:
        frames: the seconds at which each is shown, in order, with the frame.
        rate: frames a second.

    Yields:
        Frames that are shown, each with the number of its positions.

    Raises:
        VideoError: if one frame would be shown for more than ten minutes.
    """
    held: list[_T] = []
    begin: Fraction | None = None
    last = 0
    for seconds, frame in frames:
        if not held:
            held, begin = [frame], seconds
            continue
        position = _position(_exact(seconds, begin, rate, last + 1), last + 1)
        if position is None:
            continue
        if position - last > _LONGEST_PAUSE * rate:
            pause = f"{float((position - last) / rate):.0f} s"
            raise VideoError(f"no frame for {pause} after {float(last / rate):.1f} s; cut it there")
        yield held[0], position - last
        held, last = [frame], position
    if held:
        yield held[0], 1
