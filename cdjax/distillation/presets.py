"""Configurations by name: the paper's, those of the bundled models, and a quick one."""

from dataclasses import replace

from cdjax.data.loader import DataConfig
from cdjax.distillation.config import DistillationConfig, PhaseConfig, Start, Styles, Weights

_PAPER_PHASE = PhaseConfig(steps=103_479)
"""20 epochs of the 82,783 images of COCO train2014 in batches of 16."""

_PAPER = DistillationConfig(
    teacher="vgg19.pth",
    data=DataConfig("tfds:coco/2014", shorter_side=300, crop=256, batch=16, workers=8),
    start=Start("l1"),
    teacher_decoder=_PAPER_PHASE,
    student_encoder=_PAPER_PHASE,
    student_decoder=replace(_PAPER_PHASE, weights=Weights(perceptual=0.01)),
    pictures_every=2000,
)
_ADAIN_PAPER = replace(
    _PAPER, method="adain", styles=Styles("wikiart"), stages=(4,), student_decoder=_PAPER_PHASE
)

_WHITENED = PhaseConfig(learning_rate=0.003, decay=True, whitened=True)
_AUTOENCODER = replace(
    _WHITENED, steps=3000, weights=Weights(embedding=1.0, pixel=200.0, perceptual=0.0)
)
_DECODER = replace(
    _WHITENED,
    steps=1000,
    weights=Weights(embedding=0.0, pixel=1.0, perceptual=0.003),
    learning_rate=0.001,
    perceptual_encoder="student",
)
_ADAIN_AUTOENCODER = replace(
    _AUTOENCODER, steps=1500, weights=Weights(embedding=1.0), first_layer_lr_scale=0.1
)

_BUNDLED = DistillationConfig(
    data=DataConfig("photographs", shorter_side=256, crop=128, batch=4),
    start=Start(images=3579, crop=176, positions=240_000, iterations=40, image_weight=0.02),
    student_autoencoder=_AUTOENCODER,
    student_decoder=_DECODER,
)
_ADAIN_BUNDLED = replace(
    _BUNDLED,
    method="adain",
    styles=Styles("paintings"),
    stages=(4,),
    start=replace(_BUNDLED.start, images=1200, positions=120_000, decoder_images=300),
    student_autoencoder=_ADAIN_AUTOENCODER,
    student_decoder=PhaseConfig(),
    save_every=100,
    pictures_every=100,
)

_QUICK = DistillationConfig(
    data=DataConfig("dead-leaves", crop=96, batch=4),
    # Dead leaves do not contain what deeper features respond to.
    stages=(3, 2, 1),
    start=Start(images=640, crop=96, decoder_images=320, positions=40_000, iterations=8),
    student_autoencoder=replace(_AUTOENCODER, steps=120),
    student_decoder=replace(_DECODER, steps=60),
    pictures_every=60,
    save_every=60,
)
_ADAIN_QUICK = replace(
    _QUICK,
    method="adain",
    stages=(3,),
    student_autoencoder=replace(_ADAIN_AUTOENCODER, steps=120, learning_rate=0.002),
    student_decoder=PhaseConfig(),
)

PRESETS = {
    "wct": {"quick": _QUICK, "paper": _PAPER, "bundled": _BUNDLED},
    "adain": {"quick": _ADAIN_QUICK, "paper": _ADAIN_PAPER, "bundled": _ADAIN_BUNDLED},
}
"""`"quick"`: a few minutes, without photographs or downloads; `"paper"`: the paper's recipe;
`"bundled"`: how the models in the package were made."""
