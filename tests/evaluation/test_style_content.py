"""Style at equal content: measures, and the interpolation between alphas."""

import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import stylize
from cdjax.evaluation.style_content import (
    StyleContent,
    at_equal_content,
    style_content,
    trade_offs,
)
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from tests.evaluated import LARGE, SMALL, TEST, lone, networks
from tests.models import random_image

JUDGES = {"other": networks(SMALL)[0], "judge": networks(LARGE)[0]}
STYLES = random_image(3, 16, 16, seed=11)


def row(alpha: float, kept: float, gram: float, sliced: float) -> StyleContent:
    return StyleContent(alpha, {"relu1_1": gram}, {"relu1_1": sliced}, {"relu4_1": kept})


def test_measures_are_those_of_numpy_and_do_not_depend_on_the_batch() -> None:
    found = style_content(SMALL, JUDGES, TEST, STYLES, 0.7, batch=2)["judge"]
    at_once = style_content(SMALL, JUDGES, TEST, STYLES, 0.7, batch=3)["judge"]
    for part in ("gram", "sliced", "content"):
        assert getattr(found, part) == pytest.approx(getattr(at_once, part), rel=1e-3)
    spec, params = JUDGES["judge"]
    grams, kept = [], []
    for content, style in zip(TEST, STYLES, strict=True):
        made = stylize(SMALL, content, style, alpha=0.7)
        unit = [jnp.asarray(image, jnp.float32) / 255 for image in (content, style)]
        features = [
            np.asarray(apply(Encoder(spec), params, image[None])[1]["relu2_1"][0], np.float64)
            for image in (made, *unit)
        ]
        own, of_content, of_style = (values.reshape(-1, values.shape[-1]) for values in features)
        gram, wanted = own.T @ own / len(own), of_style.T @ of_style / len(own)
        grams.append(np.linalg.norm(gram - wanted) / np.linalg.norm(wanted))
        normal = [(f - f.mean(0)) / (f.std(0) + 1e-3) for f in (own, of_content)]
        kept.append((normal[0] * normal[1]).mean())
    assert found.gram["relu2_1"] == pytest.approx(np.mean(grams), rel=1e-3)
    assert found.content["relu2_1"] == pytest.approx(np.mean(kept), rel=1e-2)
    assert found.kept == found.content["relu2_1"]


def test_distances_are_compared_where_as_much_content_is_kept() -> None:
    reference = row(1, 0.3, 2.0, 0.4)
    rows = [row(1, 0.2, 1.0, 0.2), row(0.5, 0.4, 2.0, 0.6), row(0.2, 0.8, 9.0, 9.0)]
    assert at_equal_content(rows, reference) == pytest.approx({"gram": 0.75, "sliced": 1.0})
    assert at_equal_content(rows[::-1], reference) == at_equal_content(rows, reference)
    assert at_equal_content(rows[1:], reference) is None
    assert at_equal_content([reference], reference) == {"gram": 1.0, "sliced": 1.0}


def test_all_models_are_compared_with_the_first_and_lone_encoders_are_left_out() -> None:
    models = {"lone": lone(SMALL), "one": LARGE, "same": LARGE, "other": SMALL}
    found = trade_offs(models, JUDGES, TEST, STYLES, [1.0, 0.5])["judge"]
    assert list(found) == ["one", "same", "other"]
    assert found["one"] == found["same"]
    assert found["one"].at_equal_content == {"gram": 1.0, "sliced": 1.0}
    assert [row.alpha for row in found["other"].rows] == [1.0, 0.5]
    expected = at_equal_content(found["other"].rows, found["one"].rows[0])
    assert found["other"].at_equal_content == expected
