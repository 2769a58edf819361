"""Images laid side by side for all cores are convolved to the same bits as by themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.ops import conv_xla
from cdjax.ops.conv_xla import convolve_exactly, convolve_plainly
from cdjax.ops.jit import EXACT, compiled
from tests import models

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="elsewhere nothing is laid side by side"
)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def arrays(size: tuple[int, ...], widths: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return normal(*size, widths[0]), normal(3, 3, *widths)


@pytest.mark.parametrize("widths", [(17, 16), (32, 3), (16, 32), (32, 64)])
@pytest.mark.parametrize("size", [(1, 64, 10), (2, 67, 9), (1, 163, 33)])
def test_the_result_is_that_of_a_single_convolution(
    size: tuple[int, int, int], widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, kernel = arrays(size, widths)
    wider = max(0, 8 - widths[1])
    whole = compiled(partial(convolve_plainly, padding="SAME"), settings=EXACT)
    wanted = whole(images, np.pad(kernel, ((0, 0),) * 3 + ((0, wider),)))[..., : widths[1]]
    for cores in (2, 3, 5):
        monkeypatch.setattr(conv_xla, "CORES", cores)
        exactly = compiled(partial(convolve_exactly, padding="SAME"), settings=EXACT)
        np.testing.assert_array_equal(exactly(images, kernel), wanted)
    nothing = np.zeros(widths[1])
    right = [models.convolve(a, kernel, nothing, mode="constant") for a in images.astype(float)]
    np.testing.assert_allclose(wanted, np.stack(right), atol=1e-4)


@pytest.mark.parametrize(
    ("size", "widths", "cores", "parts"),
    [
        ((256, 512), (16, 32), 1, 1),
        ((256, 512), (16, 32), 2, 2),
        ((256, 512), (16, 32), 64, 8),  # Parts of 32 rows.
        ((256, 1024), (16, 32), 2, 1),
        ((256, 512), (6, 32), 2, 1),
        ((256, 128), (64, 64), 2, 1),
        ((31, 64), (32, 32), 2, 1),
    ],
)
def test_parts_are_as_many_as_cores_need(
    size: tuple[int, int],
    widths: tuple[int, int],
    cores: int,
    parts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conv_xla, "CORES", cores)
    height, width = size
    given = [
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((1, height, width, widths[0]), (3, 3, *widths))
    ]
    lowered = jax.jit(partial(convolve_exactly, padding="SAME")).lower(*given).as_text()
    row = parts * width + parts - 1
    assert f"1x{height // parts}x{row}x{widths[1]}xf32" in lowered
