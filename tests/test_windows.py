"""Windows give what the whole image gives, and forget nothing of it."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax import Model, Spec, encode_style, load_model, student, stylize, stylize_by_windows
from cdjax.image import read_image
from cdjax.transform import moments
from cdjax.windows import MomentsSum, plan_windows
from tests.models import random_image, random_model

MODEL = random_model((Spec(3, (4, 6, 8)), Spec(2, (4, 6)), Spec(1, (5,))))
STYLE = random_image(40, 52, seed=9)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 150), st.integers(1, 150), st.sampled_from((52, 64)), st.sampled_from((0.6, 1.0))
)
def test_windows_equal_the_whole_image(height: int, width: int, window: int, alpha: float) -> None:
    content = random_image(height, width, seed=height * 151 + width)
    whole = np.asarray(stylize(MODEL, content, STYLE, alpha=alpha))
    result = stylize_by_windows(MODEL, content, STYLE, alpha=alpha, window=window)
    assert result.shape == (height, width, 3)
    np.testing.assert_allclose(result, whole, atol=1e-4)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_alone_equals_the_whole_image(stage: int) -> None:
    config = dataclasses.replace(
        MODEL.config, specs=tuple(s for s in MODEL.config.specs if s.stage == stage)
    )
    model = Model({f"stage{stage}": MODEL.params[f"stage{stage}"]}, config)
    content = random_image(132, 140, seed=3)
    whole = np.asarray(stylize(model, content, STYLE))
    np.testing.assert_allclose(
        stylize_by_windows(model, content, STYLE, window=52), whole, atol=1e-4
    )


def test_a_style_is_read_by_windows_too_and_may_come_encoded() -> None:
    content, style = random_image(60, 70, seed=4), random_image(160, 130, seed=5)
    whole = np.asarray(stylize(MODEL, content, style))
    encoded = encode_style(MODEL, style)
    one = encode_style(MODEL, style[None])
    for given_style in (style, encoded, one):
        result = stylize_by_windows(MODEL, content, given_style, window=52)
        np.testing.assert_allclose(result, whole, atol=1e-4)


def test_one_program_serves_every_image() -> None:
    model = random_model((Spec(2, (3, 7)),), seed=5)
    style = encode_style(model, STYLE)
    compiled: list[str] = []
    stylize_by_windows(model, random_image(100, 110), style, window=40)

    def note(event: str, *_: float, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        stylize_by_windows(model, random_image(171, 88), style, window=40)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert compiled == []


@given(st.integers(1, 400), st.integers(1, 12), st.integers(0, 9), st.sampled_from((1, 2, 4)))
def test_cores_are_the_axis_and_no_cut_is_near_them(
    length: int, room: int, halo: int, stride: int
) -> None:
    length, halo = length * stride, halo * stride
    window = 2 * halo + room * stride
    windows = plan_windows(length, window, halo)
    assert windows[0].core[0] == 0
    assert windows[-1].core[1] == length
    for left, right in itertools.pairwise(windows):
        assert left.core[1] == right.core[0]
    for piece in windows:
        end = min(piece.start + window, length)
        assert piece.start >= 0
        assert piece.start % stride == piece.core[0] % stride == piece.core[1] % stride == 0
        assert piece.core[0] < piece.core[1]
        assert piece.start == 0 or piece.core[0] >= piece.start + halo
        assert end == length or piece.core[1] <= end - halo


def test_halos_are_those_of_the_networks() -> None:
    # Sums of 2^level over the convolutions: 1; 2 + 2; 2 + 4 + 4; 2 + 4 + 16 + 8; 30 - 8 + 32 + 16.
    assert [student(stage).halo for stage in (1, 2, 3, 4, 5)] == [1, 4, 12, 32, 80]


def test_sums_of_pieces_are_as_float64_has_them() -> None:
    generator = np.random.default_rng(0)
    # A mean 1000 times the deviation, of which a float32 sum of squares would leave nothing.
    values = 50 + 0.05 * generator.normal(size=(400, 64, 3)) * [1, 2, 3]
    sums = MomentsSum()
    for piece in values.astype(np.float32):
        sums.add(moments(jnp.asarray(piece.reshape(8, 8, 3))))
    total, flat = sums.total(), values.astype(np.float32).astype(np.float64).reshape(-1, 3)
    assert total.count == len(flat)
    np.testing.assert_allclose(total.mean, flat.mean(0), rtol=1e-7)
    np.testing.assert_allclose(total.covariance, np.cov(flat.T), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 50}, "multiple of 4 and more than 24, not 50"),
        ({"window": 24}, "multiple of 4 and more than 24, not 24"),
        ({"content": random_image(2, 30, 30)}, r"one image \(H, W, 3\)"),
        ({"dtype": "float16"}, "float32 or bfloat16"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"content": STYLE, "style": STYLE, "window": 52}
    with pytest.raises(ValueError, match=message):
        stylize_by_windows(MODEL, **(arguments | change))  # type: ignore[arg-type]


def test_the_bundled_model_on_a_photograph(shared: Path) -> None:
    model = load_model("wct-16x")
    content, style = (
        read_image(path).pixels
        for path in (shared / "images/content/0209.jpg", shared / "images/style/la_muse.jpg")
    )
    content = np.tile(content, (2, 2, 1))[:420, :500]
    whole = np.asarray(stylize(model, content, style))
    result = stylize_by_windows(model, content, style, window=336)
    # Whitening by variances of a millionth amplifies the rounding of either way, in few pixels; a
    # seam would be many.
    apart = np.abs(result - whole)
    assert apart.mean() < 1e-4
    assert apart.max() < 0.01
