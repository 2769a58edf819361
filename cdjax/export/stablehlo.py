"""A model -> a serialized `jax.export.Exported`, which holds StableHLO for pictures of any size."""

import jax
import jax.numpy as jnp
from jax import export

from cdjax.model import Model
from cdjax.transfer.stylize import stylize
from cdjax.transfer.transforms import with_transform

PLATFORMS = ("cpu", "cuda")
"""Where the program runs."""


def to_stablehlo(model: Model, *, transform: str | None = None) -> bytes:
    """A program that computes `cdjax.stylize`, for `jax.export.deserialize`.

    It takes content (H, W, 3) and style (h, w, 3), float32, RGB in [0, 1], and alpha, a float32
    scalar, and returns the result, float32 in [0, 1], of the content's shape. All sizes are
    symbolic; JAX compiles the program once for each size with which it is called. Only the last
    bits of features differ from those of cdjax.

    Args:
        model: any model that stylises; the program contains its parameters.
        transform: as for `cdjax.stylize`; by default the model's own.

    Raises:
        ValueError: if the model cannot stylise or there is no such transform.
    """
    model = with_transform(model, transform)
    height, width, *of_style = export.symbolic_shape("height, width, style_height, style_width")
    shapes = ((height, width, 3), (*of_style, 3), ())
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def program(content: jax.Array, style: jax.Array, alpha: jax.Array) -> jax.Array:
        return stylize(model, content, style, alpha=alpha)

    # Statistics are float64; where they are, lengths are 64-bit integers, and so they must be all.
    with jax.enable_x64(True):
        exported = export.export(jax.jit(program), platforms=PLATFORMS)(*arguments)
    return bytes(exported.serialize())
