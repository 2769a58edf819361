"""Recipes by name: the paper's, those of the bundled models, and a quick one."""

from dataclasses import dataclass, field, replace

from cdjax.data.loader import DataConfig
from cdjax.distillation.config import (
    PAPER_WEIGHTS,
    Phase,
    Recipe,
    Start,
    Styles,
    Training,
    Transfer,
    Weights,
)

_PAPER_STEPS = 103_479
"""20 epochs of the 82,783 images of COCO train2014 in batches of 16."""


def _paper() -> Recipe:
    def training(phase: Phase) -> Training:
        return Training(_PAPER_STEPS, PAPER_WEIGHTS[phase])

    return Recipe(
        teacher="vgg19.pth",
        data=DataConfig("tfds:coco/2014", shorter_side=300, crop=256, batch=16, workers=8),
        start=Start("l1"),
        teacher_decoder=training("teacher_decoder"),
        student_encoder=training("student_encoder"),
        student_decoder=training("student_decoder"),
        pictures_every=2000,
    )


_PAIR = Training(
    3000,
    Weights(embedding=1.0, pixel=200.0, perceptual=0.0),
    learning_rate=0.003,
    decay=True,
    whitened=True,
)
_DECODER = Training(
    1000,
    Weights(embedding=0.0, pixel=1.0, perceptual=0.003),
    learning_rate=0.001,
    decay=True,
    whitened=True,
    judge="student",
)


def _bundled() -> Recipe:
    return Recipe(
        data=DataConfig("photographs", shorter_side=256, crop=128, batch=4),
        start=Start(images=3579, crop=176, positions=240_000, iterations=40, image_weight=0.02),
        student_pair=_PAIR,
        student_decoder=_DECODER,
    )


def _quick() -> Recipe:
    return Recipe(
        data=DataConfig("dead-leaves", crop=96, batch=4),
        # What deeper features answer to is not in dead leaves.
        stages=(3, 2, 1),
        start=Start(images=640, crop=96, decoder_images=320, positions=40_000, iterations=8),
        student_pair=replace(_PAIR, steps=120),
        student_decoder=replace(_DECODER, steps=60),
        pictures_every=60,
        save_every=60,
    )


def _adain_paper() -> Recipe:
    training = Training(_PAPER_STEPS, Weights())
    return replace(
        _paper(),
        method="adain",
        styles=Styles("wikiart"),
        stages=(4,),
        teacher_decoder=training,
        student_encoder=training,
        student_decoder=training,
    )


_TRANSFER = Weights(embedding=1.0, content=1.0, style=10.0)


def _adain_bundled() -> Recipe:
    return replace(
        _bundled(),
        method="adain",
        styles=Styles("paintings"),
        stages=(4,),
        start=replace(_bundled().start, images=1200, positions=120_000, decoder_images=300),
        student_pair=Training(
            1500, _TRANSFER, learning_rate=0.003, decay=True, whitened=True, first_rate=0.1
        ),
        student_decoder=Training(),
        save_every=100,
        pictures_every=100,
    )


def _adain_quick() -> Recipe:
    return replace(
        _quick(),
        method="adain",
        stages=(3,),
        student_pair=Training(
            120, _TRANSFER, learning_rate=0.002, decay=True, whitened=True, first_rate=0.1
        ),
        student_decoder=Training(),
    )


@dataclass(frozen=True)
class Preset:
    """A recipe by name, and a line that says what it is."""

    about: str
    recipe: Recipe = field(repr=False)


PRESETS: dict[Transfer, dict[str, Preset]] = {
    "wct": {
        "quick": Preset(
            "a small, real run of a few minutes; no photographs, no downloads", _quick()
        ),
        "paper": Preset("the paper's recipe: COCO, 256-pixel crops, 20 epochs a phase", _paper()),
        "bundled": Preset("how the model in the package was made, of VGG-16", _bundled()),
    },
    "adain": {
        "quick": Preset("the same with AdaIN, dead leaves as styles too", _adain_quick()),
        "paper": Preset("the paper's recipe: COCO, paintings of WikiArt", _adain_paper()),
        "bundled": Preset("how the AdaIN model in the package was made", _adain_bundled()),
    },
}
