"""Smoothing over time: what stands still is kept as it was, statistics of features are averaged.

Stylised one by one, the frames of a film flicker: noise that nobody sees becomes strokes, which are
other ones in every frame, and moves the statistics of all features. Averages of noisy pixels would
help little, because whitening amplifies what noise is left. So a pixel keeps its first value until
more than noise changes around it, and what does not change stays the same to the last bit. A cut
starts anew.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from cdjax.model import ModelConfig
from cdjax.transfer.statistics import Moments

_BOX = 5
"""Side of the neighbourhood, in pixels, in which motion is told from noise."""

_NOISE = (3 / 255, 8 / 255)
"""Root mean square change of a neighbourhood that may be noise: at least the first, at most the
second. Noise with a standard deviation of 4 levels reaches nearly 8 in some neighbourhoods."""

_ABOVE_MEDIAN = 3.0
"""Noise changes a neighbourhood by at most this many times the median of the frame, squared."""

_WHITENESS = 5.0
"""Motion changes the mean of a neighbourhood, where noise cancels out: by at most this part of the
mean squared change."""

_MOTION = 4.0
"""A neighbourhood that changes by this many times as much as noise, squared, has moved."""

_LEVELS = 32
_SAMPLED = 4
_CUT = 12 / 255
"""How far values move between the distributions of two frames, in the mean, if there is a cut."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FrameState:
    """What a frame inherits from those before.

    Attributes:
        frames: (), float32, their number since the last cut; 0 before the first frame.
        distribution: (3, 31), float32, the cumulative distribution of every channel's values.
        content: (H, W, 3), float32, the frame that is stylised.
        moments: the averaged `Moments` of every stage, in the order of the cascade.
    """

    frames: Array
    distribution: Array
    content: Array
    moments: tuple[Moments, ...]


def initial_state(config: ModelConfig, size: tuple[int, int]) -> FrameState:
    """The state before the first of some frames of (height, width)."""

    def nothing(channels: int) -> Moments:
        return Moments(jnp.zeros(()), jnp.zeros(channels), jnp.zeros((channels, channels)))

    moments = tuple(nothing(spec.widths[-1]) for spec in config.specs)
    distribution = jnp.zeros((3, _LEVELS - 1))
    return FrameState(jnp.zeros(()), distribution, jnp.zeros((*size, 3)), moments)


def smoothed_frame(frame: Array, state: FrameState, smoothing: Array) -> tuple[FrameState, Array]:
    """Keeps what stands still of the frames before, unless there is a cut.

    Args:
        frame: (H, W, 3), float32 in [0, 1].
        state: what the frame before left.
        smoothing: number of frames over which statistics are averaged, from 1: none, and nothing is
            kept either.

    Returns:
        The state with this frame, but for the moments, which are still those of the frame before,
        and the weight of this frame in averages, from 1 / smoothing to 1.
    """
    distribution = _distribution(frame)
    # The distance by which mass is moved (Wasserstein): it grows steadily with what changes, and
    # does not see what only moves.
    moved = jnp.abs(distribution - state.distribution).sum(1).mean() / _LEVELS
    frames = jnp.where(moved > _CUT, 0.0, state.frames) + 1
    weight = jnp.maximum(1 / smoothing, 1 / frames)
    weights = jnp.where(weight < 1, _motion(frame - state.content), 1.0)[..., None]
    # Not `state.content + weights * apart`, which would not be exactly the frame at weight 1.
    content = weights * frame + (1 - weights) * state.content
    return FrameState(frames, distribution, content, state.moments), weight


def _motion(change: Array) -> Array:
    """How certainly something moved, from 0 to 1, (H, W), where a frame changed by (H, W, 3)."""
    energy = _box_mean(jnp.square(change).mean(-1))
    trend = jnp.square(_box_mean(change)).mean(-1)
    # The median, because most of a frame stands still in most films.
    median = jnp.median(energy[::_SAMPLED, ::_SAMPLED])
    noise = jnp.clip(_ABOVE_MEDIAN * median, _NOISE[0] ** 2, _NOISE[1] ** 2)
    ratio = jnp.maximum(energy, _WHITENESS * trend) / noise
    return jnp.clip((ratio - 1) / (_MOTION - 1), 0, 1)


def smoothed_moments(new: Moments, old: Moments, weight: Array) -> Moments:
    """The average of the moments of a frame, with its weight, and of the frames before.

    A region may grow or be empty for a while: means count by its size.
    """
    count = weight * new.count + (1 - weight) * old.count
    share = jnp.where(count > 0, weight * new.count / jnp.where(count > 0, count, 1), weight)
    mean = share * new.mean + (1 - share) * old.mean
    scatter = weight * new.scatter + (1 - weight) * old.scatter
    return Moments(count, mean, scatter)


def _distribution(frame: Array) -> Array:
    """The share of each channel's values below each of 31 levels, (3, 31)."""
    sample = frame[::_SAMPLED, ::_SAMPLED].reshape(-1, 3)
    levels = jnp.arange(1, _LEVELS) / _LEVELS
    return (sample[..., None] < levels).mean(0, dtype=jnp.float32)


def _box_mean(values: Array) -> Array:
    """Means over a square of `_BOX` pixels a side around every position of (H, W) or (H, W, 3)."""
    # Sums of slices, because `lax.reduce_window` is slow on CPUs.
    for axis in (0, 1):
        length, before = values.shape[axis], _BOX // 2
        padding = [(before, before) if i == axis else (0, 0) for i in range(values.ndim)]
        padded = jnp.pad(values, padding, "edge")
        parts = [lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(_BOX)]
        values = sum(parts[1:], parts[0])
    return values / _BOX**2
