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

Times = Sequence[Fraction | None]
"""The seconds at which frames are shown, in order; None: one frame after the one before."""


def choose_rate(times: Times, candidates: Iterable[Fraction | None]) -> Fraction:
    """The constant rate of a film, in frames a second.

    Args:
        times: of all its frames.
        candidates: what its file says or libav guesses, the most likely first.

    Returns:
        The candidate at which the fewest frames are left out and, of these, the fewest are shown
        again; 25 if there is none.
    """
    rates = [rate for rate in candidates if rate and rate <= _FASTEST]
    return min(rates, key=partial(count_changes, times), default=_FALLBACK)


def count_changes(times: Times, rate: Fraction) -> tuple[int, int]:
    """How many frames a constant rate leaves out, and how many it adds; errors as below."""
    shown = [positions for _, positions in at_constant_rate([(t, t) for t in times], rate)]
    return len(times) - len(shown), sum(shown) - len(shown)


def at_constant_rate(
    frames: Iterable[tuple[Fraction | None, _T]], rate: Fraction
) -> Iterator[tuple[_T, int]]:
    """How often every frame is shown at a constant rate.

    Every frame goes to the nearest position. Of two frames at a position the first is shown, and
    a frame is shown again where the next one comes later.

    Args:
        frames: the seconds at which each is shown, in order, with the frame; None stands for
            the position after the frame before.
        rate: frames a second.

    Yields:
        Frames that are shown, each with the number of its positions.

    Raises:
        VideoError: if one frame would be shown for more than ten minutes.
    """
    held: list[_T] = []
    begin, last = Fraction(0), 0
    for seconds, frame in frames:
        if not held:
            held, begin = [frame], begin if seconds is None else seconds
            continue
        position = last + 1 if seconds is None else round((seconds - begin) * rate)
        if position <= last:
            continue
        if position - last > _LONGEST_PAUSE * rate:
            pause = f"{float((position - last) / rate):.0f} s"
            raise VideoError(f"no frame for {pause} after {float(last / rate):.1f} s; cut it there")
        yield held[0], position - last
        held, last = [frame], position
    if held:
        yield held[0], 1
