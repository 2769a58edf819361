"""A program for tests: regions by windows and whole, compiled as users compile."""

import numpy as np

from cdjax import Spec, encode_style, stylize, stylize_by_windows
from tests.models import random_image, random_model


def main() -> None:
    model = random_model((Spec(2, (4, 6)),))
    content = random_image(200, 190, seed=7)
    styles = [encode_style(model, random_image(40, 52, seed=seed)) for seed in (1, 2)]
    masks = [np.random.default_rng(seed).random((200, 190), np.float32) for seed in (1, 2)]
    masks[1] *= 0.5
    whole = np.asarray(stylize(model, content, styles, masks=masks))
    assert whole.std() > 0.02
    result = stylize_by_windows(model, content, styles, masks=masks, memory=10**6)
    np.testing.assert_array_equal(result, whole)


if __name__ == "__main__":
    main()
