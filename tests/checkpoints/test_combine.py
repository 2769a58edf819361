"""Stages of several models in one, each with its teacher."""

import dataclasses
from pathlib import Path

import pytest

from cdjax import Model, ModelConfig, Spec, load_model, save_model
from cdjax.checkpoints import pretrained
from cdjax.checkpoints.combine import combine_models
from cdjax.errors import CheckpointError
from cdjax.networks.spec import VGG16_DEPTHS
from tests.models import random_model, same

DEEP, SHALLOW = Spec(2, (6, 8)), Spec(1, (5,))


def model_of(teacher: str, *specs: Spec, seed: int) -> Model:
    model = random_model(specs, seed=seed)
    sources = ((f"{teacher}.pth", "0" * 64),)
    config = ModelConfig("wct", specs, teacher, sources)
    return dataclasses.replace(model, config=config)


def test_later_stages_replace_earlier_ones_and_keep_their_teacher(tmp_path: Path) -> None:
    one = model_of("vgg19-normalised", DEEP, SHALLOW, seed=1)
    two = model_of("vgg16-normalised", Spec(3, (4, 5, 6), VGG16_DEPTHS), SHALLOW, seed=2)
    model = combine_models([one, two])
    depths = [spec.depths for spec in model.config.specs]
    assert depths == [VGG16_DEPTHS, DEEP.depths, SHALLOW.depths]
    assert model.config.teacher == "vgg16-normalised, vgg19-normalised"
    assert [model.config.teacher_of(stage) for stage in (3, 2, 1)] == [
        "vgg16-normalised",
        "vgg19-normalised",
        "vgg16-normalised",
    ]
    assert model.config.sources == one.config.sources + two.config.sources
    assert model.params["stage2"] is one.params["stage2"]
    assert model.params["stage1"] is two.params["stage1"]

    save_model(tmp_path / "combined", model)
    pretrained.write_bundled(tmp_path / "combined.npz", model)
    loaded = load_model(tmp_path / "combined")
    assert same(loaded, model)
    assert pretrained.read_bundled(tmp_path / "combined.npz").config == model.config
    again = combine_models([loaded, one])
    assert again.config.teacher_of(3) == "vgg16-normalised"
    assert again.config.teacher_of(1) == "vgg19-normalised"


def test_stages_keep_their_strengths() -> None:
    one = model_of("vgg", DEEP, SHALLOW, seed=1)
    one = dataclasses.replace(
        one, config=dataclasses.replace(one.config, strengths=((2, 0.5), (1, 0.9)))
    )
    assert combine_models([one, model_of("vgg", SHALLOW, seed=2)]).config.strengths == ((2, 0.5),)
    assert combine_models([one, model_of("vgg", DEEP, seed=2)]).config.strengths == ((1, 0.9),)
    assert combine_models([one, model_of("vgg", DEEP, SHALLOW, seed=2)]).config.strengths == ()


def test_stages_keep_their_transforms() -> None:
    one, two = model_of("vgg", DEEP, SHALLOW, seed=1), model_of("vgg", DEEP, seed=2)
    one = dataclasses.replace(
        one, config=dataclasses.replace(one.config, transforms=((2, "adain"), (1, "ot")))
    )
    assert combine_models([one, two]).config.transforms == ((1, "ot"),)
    assert combine_models([two, one]).config.transforms == ((2, "adain"), (1, "ot"))


def test_one_teacher_is_named_once() -> None:
    one, two = model_of("vgg", DEEP, seed=1), model_of("vgg", SHALLOW, seed=2)
    config = combine_models([two, one]).config
    assert (config.teacher, config.teachers) == ("vgg", ())
    assert config.specs == (DEEP, SHALLOW)
    assert combine_models([one, model_of("other", DEEP, seed=3)]).config.teacher == "other"


def test_stages_of_adain_are_combined() -> None:
    deep, shallow = (random_model((spec,), method="adain") for spec in (DEEP, SHALLOW))
    config = combine_models([shallow, deep]).config
    assert (config.method, config.specs) == ("adain", (DEEP, SHALLOW))


def test_only_stages_of_one_method_are_combined() -> None:
    adain = random_model((DEEP,), method="adain")
    for models, found in (
        ([], "none"),
        ([adain, random_model((SHALLOW,))], "adain, wct"),
        ([random_model(), random_model((DEEP,), method="encoder")], "encoder, wct"),
    ):
        with pytest.raises(CheckpointError, match=f"can be combined; these are of {found}$"):
            combine_models(models)
