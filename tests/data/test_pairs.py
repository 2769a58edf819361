"""Contents beside styles: what is in a batch of pairs, in which order, and going on."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cdjax.data.loader import Batches, DataConfig
from cdjax.data.pairs import Pairs
from cdjax.distillation.config import DistillationConfig, Styles
from cdjax.distillation.presets import PRESETS
from cdjax.errors import DataError
from tests.pictures import numbers, picture


@pytest.fixture
def recipe(tmp_path: Path) -> DistillationConfig:
    """Contents 0 to 4 and, in another folder, styles 6 to 9."""
    for name, images in (("contents", range(5)), ("styles", range(6, 10))):
        (tmp_path / name).mkdir()
        for number in images:
            picture(number).save(tmp_path / name / f"{number}.png")
    data = DataConfig(str(tmp_path / "contents"), shorter_side=40, crop=32, batch=4, seed=3)
    return DistillationConfig(
        method="adain", stages=(4,), data=data, styles=Styles(str(tmp_path / "styles"))
    )


def pairs(recipe: DistillationConfig, **hosts: int) -> Pairs:
    share = recipe.styles.contents
    return Pairs(recipe.data, recipe.style_data, contents_as_styles=share, **hosts)


def taken(recipe: DistillationConfig, count: int, **hosts: int) -> np.ndarray:
    with pairs(recipe, **hosts) as data:
        return np.concatenate(list(islice(data, count)))


def test_a_content_and_a_style_each(recipe: DistillationConfig) -> None:
    images = taken(recipe, 10)
    assert images.shape == (40, 2, 32, 32, 3)
    assert images.dtype == np.uint8
    contents, styles = (numbers(images[:, side]) for side in (0, 1))
    assert set(contents) == set(range(5))
    assert set(styles) == set(range(6, 10))
    # Both orders are random and independent: contents meet many styles.
    assert len(set(zip(contents, styles, strict=True))) > 10


def test_the_seed_decides_everything(recipe: DistillationConfig) -> None:
    first = taken(recipe, 3)
    np.testing.assert_array_equal(taken(recipe, 3), first)
    other = replace(recipe, data=replace(recipe.data, seed=4))
    assert not np.array_equal(taken(other, 3), first)


def test_one_source_on_both_sides_gives_no_pair_of_equals(recipe: DistillationConfig) -> None:
    dead_leaves = replace(recipe, data=replace(recipe.data, source="dead-leaves"), styles=Styles())
    images = taken(dead_leaves, 2)
    apart = np.abs(images[:, 0].astype(int) - images[:, 1]).mean((1, 2, 3))
    assert apart.min() > 5


def test_styles_get_other_colours_and_keep_what_is_light_and_dark(
    recipe: DistillationConfig,
) -> None:
    plain = taken(recipe, 10)
    recipe = replace(recipe, styles=replace(recipe.styles, colors=True))
    varied = taken(recipe, 10)
    np.testing.assert_array_equal(taken(recipe, 10), varied)
    np.testing.assert_array_equal(varied[:, 0], plain[:, 0])
    before, after = (images[:, 1].reshape(len(images), -1, 3) for images in (plain, varied))
    colours = after.mean(1)
    assert np.abs(colours - before.mean(1)).mean() > 10
    assert np.ptp(colours, axis=0).min() > 50
    grey = zip(before.mean(-1), after.mean(-1), strict=True)
    assert np.median([np.corrcoef(*pair)[0, 1] for pair in grey]) > 0.5


def test_a_position_is_found_again(recipe: DistillationConfig) -> None:
    with pairs(recipe) as data:
        list(islice(data, 3))
        state = json.loads(json.dumps(data.state()))
        expected = next(data)
    with pairs(recipe) as data:
        data.restore(state)
        np.testing.assert_array_equal(next(data), expected)
    with pairs(replace(recipe, data=replace(recipe.data, workers=1))) as data:
        data.restore(state)
        np.testing.assert_array_equal(next(data), expected)


def test_positions_of_other_data_are_refused(recipe: DistillationConfig) -> None:
    with pairs(recipe) as data, Batches(recipe.data) as alone:
        with pytest.raises(DataError, match="not one of pairs"):
            data.restore(alone.state())
        state = data.state()
    other = replace(recipe, styles=Styles(recipe.data.source))
    with pairs(other) as data, pytest.raises(DataError, match="source was"):
        data.restore(state)


def test_a_share_of_the_styles_are_contents(recipe: DistillationConfig) -> None:
    mixed = replace(recipe, styles=replace(recipe.styles, contents=0.4))
    images, plain = taken(mixed, 20), taken(recipe, 20)
    np.testing.assert_array_equal(images[:, 0], plain[:, 0])
    same = (images[:, 1] == plain[:, 1]).all((1, 2, 3))
    assert 0.2 < np.mean(~same) < 0.6
    assert set(numbers(images[~same][:, 1])) == set(range(5))
    with pairs(mixed) as data:
        next(data)
        state = data.state()
    with pairs(mixed) as data:
        data.restore(state)
        np.testing.assert_array_equal(next(data), images[4:8])
    with pytest.raises(DataError, match="share of contents"):
        pairs(replace(recipe, styles=replace(recipe.styles, contents=1.5)))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_processes_share_every_batch(recipe: DistillationConfig, share: float) -> None:
    recipe = replace(recipe, styles=replace(recipe.styles, contents=share))
    whole = taken(recipe, 1)
    parts = [taken(recipe, 1, process_index=i, process_count=2) for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_broken_images_of_both_sides_are_skipped_and_named(recipe: DistillationConfig) -> None:
    for folder in (recipe.data.source, recipe.styles.source):
        (Path(folder) / "broken.png").write_bytes(b"no picture")
    with pairs(recipe) as data:
        images = np.concatenate(list(islice(data, 6)))
        assert data.skipped == 2
        assert [line.partition(":")[0] for line in data.broken] == ["broken.png"] * 2
    assert set(numbers(images[:, 1])) == set(range(6, 10))


def test_a_failure_on_one_side_leaves_the_pairs_together(recipe: DistillationConfig) -> None:
    styles = Path(recipe.styles.source)
    with pairs(recipe) as data:
        next(data)
        state = data.state()
        expected = next(data)
    kept = {path: path.read_bytes() for path in styles.iterdir()}
    with pairs(recipe) as data:
        data.restore(state)
        for path in kept:
            path.write_bytes(b"no picture")
        with pytest.raises(DataError, match="images in a row are broken"):
            next(data)
        assert data.state() == state
        for path, content in kept.items():
            path.write_bytes(content)
        np.testing.assert_array_equal(next(data), expected)


def test_sources_that_cannot_be_had_are_named(recipe: DistillationConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        pairs(replace(recipe, styles=Styles(str(tmp_path / "nowhere"))))
    with pytest.raises(DataError, match="one crop and one batch size"):
        Pairs(recipe.data, replace(recipe.style_data, batch=2))


def test_the_paper_preset_is_the_papers() -> None:
    recipe = PRESETS["adain"]["paper"]
    assert recipe.stages == (4,)
    assert recipe.data.source == "tfds:coco/2014"
    assert (recipe.style_data.shorter_side, recipe.style_data.crop) == (300, 256)
    assert recipe.style_data.batch == recipe.data.batch == 16
    assert recipe.style_data.seed != recipe.data.seed
    assert recipe.needs_teacher_decoder
    for phase in ("teacher_decoder", "student_encoder", "student_decoder"):
        training = recipe.phase(phase)
        assert (training.weights.content, training.weights.style) == (1, 10)
        assert training.learning_rate == 1e-4
    assert recipe.student_encoder.weights.embedding == 10
    assert recipe.student_autoencoder.steps == 0
