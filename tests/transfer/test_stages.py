"""The cascade: every stage's transform sees its features; training computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax import Spec
from cdjax.transfer.stages import decode_stage, encode_stage, run_cascade
from tests.models import decode, encode, random_image, random_model

MODEL = random_model((Spec(2, (4, 5)), Spec(1, (6,))))
SPECS = MODEL.config.specs


def images() -> Array:
    return jnp.asarray(random_image(2, 24, 20) / 255, jnp.float32)


def test_without_transform_it_reconstructs_stage_by_stage() -> None:
    found = jax.jit(lambda given: run_cascade(MODEL.params, SPECS, given))(images())
    for result, image in zip(found, np.asarray(images(), np.float64), strict=True):
        for spec in SPECS:
            params = MODEL.params[f"stage{spec.stage}"]
            features = encode(spec, params["encoder"], image)[f"relu{spec.stage}_1"]
            image = decode(spec, params["decoder"], features)
        np.testing.assert_allclose(result, image, rtol=1e-4, atol=1e-5)


def test_the_transform_gets_every_stages_features() -> None:
    seen = []

    def double(spec: Spec, features: Array) -> Array:
        seen.append((spec.stage, features.shape))
        return 2 * features

    stage = SPECS[1:]
    found = run_cascade(MODEL.params, stage, images(), double)
    params = MODEL.params["stage1"]
    features = encode_stage(params["encoder"], stage[0], images())
    np.testing.assert_allclose(
        found, decode_stage(params["decoder"], stage[0], 2 * features), rtol=1e-5
    )
    run_cascade(MODEL.params, SPECS, images(), double)
    assert seen == [(1, (2, 24, 20, 6)), (2, (2, 12, 10, 5)), (1, (2, 24, 20, 6))]


def test_training_computes_the_same() -> None:
    model = random_model((Spec(2, (64, 64)),))  # Wide enough for the faster algorithms.
    given = images()[:, :, :16]
    plain, training = (
        run_cascade(model.params, model.config.specs, given, training=each)
        for each in (False, True)
    )
    np.testing.assert_allclose(training, plain, atol=1e-4 * float(plain.max()))
    assert not np.array_equal(training, plain)
