"""Dead-leaves images: repeatable, and statistically like photographs."""

from itertools import pairwise

import numpy as np
import pytest

from cdjax.data.dead_leaves import dead_leaves


def test_dead_leaves_are_the_same_again_and_all_different() -> None:
    images = [dead_leaves(seed, index, size=96) for seed, index in ((0, 0), (0, 1), (1, 0))]
    np.testing.assert_array_equal(images[0], dead_leaves(0, 0, size=96))
    assert images[0].dtype == np.uint8
    assert images[0].shape == (96, 96, 3)
    assert np.abs(images[0].astype(int) - images[1]).mean() > 10
    assert np.abs(images[0].astype(int) - images[2]).mean() > 10


def test_dead_leaves_have_the_statistics_of_photographs() -> None:
    images = np.stack([dead_leaves(0, index, size=128) for index in range(24)]) / 255
    grey = images.mean(axis=3)
    assert 0.3 < images.mean() < 0.6
    assert (grey.std(axis=(1, 2)) > 0.04).all()
    # Neighbouring pixels are mostly alike and sometimes far apart (Gaussian: 3).
    steps = np.diff(grey, axis=2)
    assert np.median((steps**4).mean(axis=(1, 2)) / (steps**2).mean(axis=(1, 2)) ** 2) > 6
    # The power spectrum falls like that of photographs, about frequency**-2.5.
    window = np.outer(np.hanning(128), np.hanning(128))
    power = np.abs(np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    rings = np.geomspace(0.03, 0.4, 8)
    rows = [
        power[:, (frequency >= low) & (frequency < high)].mean() for low, high in pairwise(rings)
    ]
    slope = np.polyfit(np.log(np.sqrt(rings[1:] * rings[:-1])), np.log(rows), 1)[0]
    assert -3.5 < slope < -1.8
    # Colours: not grey, and no single cast.
    assert (images.max(axis=3) - images.min(axis=3)).mean() > 0.05
    assert images.mean(axis=(0, 1, 2)).std() < 0.06


@pytest.mark.parametrize("size", [1, 7, 300])
def test_dead_leaves_of_any_size(size: int) -> None:
    assert dead_leaves(3, 4, size=size).shape == (size, size, 3)
