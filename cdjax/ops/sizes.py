"""Images whose height and width are known, and those of programs exported for any size."""

from jax import Array
from jax.export import is_symbolic_dim


def is_known(images: Array) -> bool:
    """Whether all lengths of an array are numbers, not symbols of `jax.export`.

    Where they are symbols, code cannot depend on a comparison of them.
    """
    return not any(map(is_symbolic_dim, images.shape))
