"""Embeddings of an encoder that is there, against NumPy's least squares in float64."""

import jax
import numpy as np
import pytest

from cdjax import Spec
from cdjax.distillation.initialization.layerwise import fit_embedding
from cdjax.evaluation.explained_variance import fraction_variance_unexplained
from tests import models

DEPTHS = (2, 1, 1, 1, 1)
TEACHER, STUDENT = Spec(2, (8, 9), DEPTHS), Spec(2, (4, 5), DEPTHS)
IMAGES = models.random_image(6, 20, 16)
EVERYWHERE = IMAGES.size


def network(spec: Spec, seed: int) -> dict[str, dict[str, jax.Array]]:
    return models.random_model([spec], seed=seed).params["stage2"]["encoder"]


def rows(spec: Spec, params: dict[str, dict[str, jax.Array]], name: str) -> np.ndarray:
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    features = [models.encode(spec, wide, image / 255)[name] for image in IMAGES]
    return np.concatenate([f.reshape(-1, f.shape[-1]) for f in features])


@pytest.mark.parametrize("name", ["relu1_1", "relu2_1"])
def test_they_come_as_near_as_any_affine_map(name: str) -> None:
    student, teacher = network(STUDENT, 1), network(TEACHER, 2)
    found = fit_embedding(
        np.random.default_rng(0),
        (STUDENT, student),
        (TEACHER, teacher),
        IMAGES,
        positions=EVERYWHERE,
    )
    assert list(found) == ["relu1_1", "relu2_1"]
    inputs, targets = rows(STUDENT, student, name), rows(TEACHER, teacher, name)
    with_one = np.concatenate([inputs, np.ones_like(inputs[:, :1])], axis=1)
    best = with_one @ np.linalg.lstsq(with_one, targets)[0]
    embedded = inputs @ np.asarray(found[name]["kernel"]) + np.asarray(found[name]["bias"])
    least = np.square(best - targets).mean()
    # Otherwise there is nothing to be better at than the mean.
    assert least < 0.9 * targets.var(axis=0).mean()
    assert np.square(embedded - targets).mean() < 1.001 * least


def test_a_few_positions_do() -> None:
    student, teacher = network(STUDENT, 1), network(TEACHER, 2)
    pair = (STUDENT, student), (TEACHER, teacher)
    few = fit_embedding(np.random.default_rng(0), *pair, IMAGES, positions=200)
    wanted = fraction_variance_unexplained([pair[0]], pair[1], IMAGES, IMAGES)[0]["affine"]
    for name, share in wanted.items():
        inputs, targets = rows(STUDENT, student, name), rows(TEACHER, teacher, name)
        embedded = inputs @ np.asarray(few[name]["kernel"]) + np.asarray(few[name]["bias"])
        left = np.square(embedded - targets).sum() / np.square(targets - targets.mean(0)).sum()
        assert share < left < share + 0.1
