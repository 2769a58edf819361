"""The images of a distillation: batches of a phase, samples for the start, and previews."""

from dataclasses import replace

import numpy as np

from cdjax.data.loader import Batches
from cdjax.data.pairs import Pairs
from cdjax.distillation.config import DistillationConfig, Phase
from cdjax.model import Images

_PREVIEWED = 4


def open_batches(
    config: DistillationConfig, phase: Phase, *, process_index: int = 0, process_count: int = 1
) -> Batches | Pairs:
    """The batches that a phase is trained on: images, or pairs of contents and styles."""
    hosts = {"process_index": process_index, "process_count": process_count}
    if config.method == "adain" or phase == "student_transfer":
        share = config.styles.contents
        return Pairs(config.data, config.style_data, contents_as_styles=share, **hosts)
    return Batches(config.data, **hosts)


def sample_images(config: DistillationConfig, count: int | None = None) -> Images:
    """The first crops of the data, (count, crop, crop, 3) uint8, as `config.start` describes them.

    `count` is `config.start.images` by default; fewer are returned if there are fewer photographs.
    """
    start, data = config.start, config.data
    side = data.shorter_side if data.source == "dead-leaves" else max(data.shorter_side, start.crop)
    with Batches(replace(data, crop=start.crop, shorter_side=side, batch=1, workers=0)) as crops:
        wanted = start.images if count is None else count
        if data.source != "dead-leaves":
            # A second crop of a photograph could be on both sides of lsq's split.
            wanted = min(wanted, crops.examples_per_epoch)
        return np.concatenate([next(crops) for _ in range(wanted)])


def preview_images(config: DistillationConfig, phase: Phase) -> Images:
    """The few images, or pairs, whose results are shown during a phase."""
    data = replace(config.data, batch=_PREVIEWED, seed=config.data.seed + 2, workers=0)
    with open_batches(replace(config, data=data), phase) as crops:
        return next(crops)
