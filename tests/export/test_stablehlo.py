"""StableHLO files compute what `cdjax.stylize` computes, at sizes that were unknown before."""

import jax
import numpy as np
import pytest
from jax import export

from cdjax import Spec, stylize
from cdjax.export.stablehlo import to_stablehlo
from cdjax.model import Method
from tests.models import random_image, random_model

pytest.importorskip("flatbuffers", reason="needs the extra export")

SPECS = (Spec(2, (4, 6)), Spec(1, (5,)))


@pytest.mark.parametrize(
    ("method", "sizes"),
    [("wct", [(33, 50), (24, 21)]), ("adain", [(1, 3)])],
)
def test_one_file_for_all_sizes(method: Method, sizes: list[tuple[int, int]]) -> None:
    model = random_model(SPECS, method=method)
    program = export.deserialize(bytearray(to_stablehlo(model)))
    assert program.platforms == ("cpu", "cuda")
    style = random_image(29, 18, seed=2) / np.float32(255)
    for size in sizes:
        content = random_image(*size) / np.float32(255)
        result = program.call(content, style, np.float32(0.7))
        expected = stylize(model, content, style, alpha=0.7)
        assert result.shape == content.shape
        np.testing.assert_allclose(result, expected, rtol=0, atol=1 / 255)


def test_the_setting_of_precision_is_left_as_it_was() -> None:
    to_stablehlo(random_model(SPECS[1:]), transform="adain")
    assert not jax.config.jax_enable_x64


def test_an_unknown_transform_is_refused() -> None:
    with pytest.raises(ValueError, match="no transform 'gatys'"):
        to_stablehlo(random_model(SPECS), transform="gatys")
