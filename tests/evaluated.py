"""What the tests of evaluation measure: a teacher, a student, images."""

import dataclasses
from pathlib import Path

from cdjax import Model, Spec
from cdjax.evaluation.explained_variance import Form, fraction_variance_unexplained
from cdjax.model import Images, Params
from tests.models import random_image, random_model
from tests.pictures import picture

Network = tuple[Spec, Params]
DEPTHS = (2, 1, 1, 1, 1)


def made_teacher() -> Model:
    """Its deepest encoder serves all stages, and its ReLUs cut much off."""
    model = random_model((Spec(2, (6, 8), DEPTHS), Spec(1, (6,), DEPTHS)), seed=3)
    encoder = model.params["stage2"]["encoder"]
    for name, layer in encoder.items():
        if name != "conv0":
            layer["bias"] = layer["bias"] - 0.3
    model.params["stage1"]["encoder"] = {name: encoder[name] for name in ("conv0", "conv1_1")}
    return model


LARGE = made_teacher()
SMALL = random_model((Spec(2, (3, 4), DEPTHS), Spec(1, (4,), DEPTHS)), seed=4)
FIT, TEST = random_image(5, 16, 16), random_image(3, 16, 16, seed=7)


def networks(model: Model) -> list[Network]:
    return [(s, model.params[f"stage{s.stage}"]["encoder"]) for s in model.config.specs]


def lone(model: Model) -> Model:
    spec, params = networks(model)[0]
    config = dataclasses.replace(model.config, method="encoder", specs=(spec,))
    return Model({f"stage{spec.stage}": {"encoder": params}}, config)


def photographs(folder: Path, count: int, *, side: int = 20) -> Path:
    folder.mkdir()
    for number in range(count):
        picture(number, side + 12, side).save(folder / f"{number:02}.png")
    return folder


def unexplained_variance(
    student: Network,
    teacher: Network,
    fit: Images,
    test: Images,
    *,
    form: Form = "affine",
    batch: int = 8,
) -> dict[str, float]:
    """Of one student, under one form of embedding."""
    samples = 60_000 if form == "relu" else 1000  # The fit of the ReLU form takes most of the time.
    found = fraction_variance_unexplained(
        [student], teacher, fit, test, batch=batch, samples=samples
    )
    return found[0][form]
