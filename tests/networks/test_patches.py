"""Networks in patches against the same networks on the whole image."""

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Model, Spec
from cdjax.networks.patches import SIDE, Grid, decode_patches, encode_patches
from cdjax.transfer.stages import decode_stage, encode_stage
from tests import models

SPEC = Spec(4, (5, 6, 7, 20))


@pytest.fixture(scope="module")
def model() -> Model:
    return models.random_model([SPEC])


@pytest.mark.parametrize("size", [(16, 24), (SIDE, SIDE + 8), (2 * SIDE + 8, SIDE - 8)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_networks_in_patches_equal_those_of_the_whole_image(
    model: Model, size: tuple[int, int], dtype: str
) -> None:
    image = models.random_image(*size).astype(np.float32) / 255
    params, grid = model.params["stage4"], Grid(size)
    features = encode_stage(params["encoder"], SPEC, image[None], dtype=dtype)
    decoded = decode_stage(params["decoder"], SPEC, features, dtype=dtype)[0]
    with ThreadPoolExecutor(2) as pool:
        patches = encode_patches(params["encoder"], SPEC, grid.cut(image), grid, pool, dtype=dtype)
        made = decode_patches(params["decoder"], SPEC, patches, grid, pool, dtype=dtype)
    assert patches[0].dtype == jnp.dtype(dtype)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(
        np.float32(grid.joined(patches, 3)), np.float32(features[0]), rtol=0, atol=tolerance
    )
    np.testing.assert_allclose(grid.joined(made), decoded, rtol=0, atol=tolerance)
    assert np.ptp(decoded) > 0.02


@pytest.mark.parametrize(("size", "level"), [((8, 8), 0), ((200, 300), 2)])
def test_patches_join_to_what_was_cut(size: tuple[int, int], level: int) -> None:
    grid = Grid((size[0] << level, size[1] << level))
    whole = models.random_image(*size)
    patches = grid.cut(whole, level)
    assert {patch.shape for patch in patches} == {(SIDE >> level, SIDE >> level, 3)}
    np.testing.assert_array_equal(grid.joined(patches, level), whole)
