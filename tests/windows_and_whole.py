"""A program for tests: a photograph by windows and whole, compiled as users compile.

The networks are those of `adain-16x`, which reach relu4_1, with the transform that needs more.
"""

import dataclasses
import sys

import numpy as np

from cdjax import Model, load_model, stylize, stylize_by_windows
from cdjax.io.images import read_image
from cdjax.transfer.color import with_chroma_of


def main(content: str, style: str) -> None:
    model = load_model("adain-16x")
    model = Model(model.params, dataclasses.replace(model.config, method="wct"))
    pixels, painting = (read_image(path).pixels for path in (content, style))
    pixels = np.tile(pixels, (2, 2, 1))[:420, :500]
    whole = np.asarray(stylize(model, pixels, painting))
    assert whole.std() > 0.05
    result = stylize_by_windows(model, pixels, painting, memory=60 * 10**6)
    np.testing.assert_array_equal(result, whole)
    # Loops over pixels end differently at other widths; the bits must not.
    coloured = np.asarray(with_chroma_of(pixels, whole))
    for width in (1, 77, 130):
        part = with_chroma_of(pixels[:33, :width], whole[:33, :width])
        np.testing.assert_array_equal(part, coloured[:33, :width])
    print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
