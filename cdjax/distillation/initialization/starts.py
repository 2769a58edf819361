"""Students before training: made by a recipe's method, or a student that is there already."""

import jax

from cdjax.checkpoints.load import load_model
from cdjax.distillation.config import Start
from cdjax.distillation.initialization.embedding import fit_embedding
from cdjax.distillation.initialization.initialize import (
    generator_of,
    initialize_decoder,
    initialize_encoder,
)
from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.initialization.layerwise import Report
from cdjax.model import Params
from cdjax.networks.spec import Spec

_EMBEDDED_OVER = 1000


def encoder_start(
    key: jax.Array,
    spec: Spec,
    teacher: tuple[Spec, Params],
    images: Images,
    *,
    start: Start,
    report: Report,
) -> dict[str, Params]:
    """A student's encoder and embedding.

    Args:
        key: random key.
        spec: the student's.
        teacher: spec and parameters of the encoder to imitate.
        images: (N, H, W, 3) uint8 RGB.
        start: what to do; a `start.model` that has embeddings gets new ones all the same, because
            they may be another teacher's.
        report: called with a line of text now and then.

    Returns:
        `{"encoder": ..., "embedding": ...}`, float32.

    Raises:
        ValueError: if `start` does not fit the student.
    """
    if start.model is None:
        return initialize_encoder(
            key, spec, teacher, images,
            method=start.method, positions=start.positions, iterations=start.iterations,
            image_weight=start.image_weight, report=report,
        )  # fmt: skip
    encoder = student_to_go_on_from(start.model, spec)["encoder"]
    embedding = fit_embedding(
        generator_of(key),
        (spec, encoder),
        teacher,
        images[:_EMBEDDED_OVER],
        positions=start.positions,
    )
    return {"encoder": encoder, "embedding": embedding}


def decoder_start(
    key: jax.Array,
    spec: Spec,
    encoder: Params,
    images: Images,
    *,
    start: Start,
    report: Report,
    teacher: tuple[Spec, Params] | None = None,
) -> Params:
    """A decoder to go with an encoder, a student's or a teacher's.

    Args:
        key: random key.
        spec: of both.
        encoder: parameters of the finished encoder.
        images: (N, H, W, 3) uint8 RGB; the first `start.decoder_images` are looked at.
        start: what to do.
        report: called with a line of text now and then.
        teacher: what the method `"l1"` prunes: spec and parameters of the teacher's decoder.

    Returns:
        `{"conv{k}_1": ..., "conv1_1": ...}`, float32.

    Raises:
        ValueError: if `start` does not fit the networks.
    """
    if start.model is not None:
        return student_to_go_on_from(start.model, spec)["decoder"]
    few = images[: start.decoder_images]
    return initialize_decoder(
        key, spec, encoder, few, method=start.method, teacher=teacher,
        positions=start.positions * len(few) // len(images), iterations=start.iterations,
        report=report,
    )  # fmt: skip


def student_to_go_on_from(name: str, spec: Spec) -> dict[str, Params]:
    """Encoder and decoder of a model's stage.

    Args:
        name: a checkpoint or a bundled model.
        spec: what the student is to be.

    Raises:
        ValueError: if the model has no such student (`CheckpointError` if there is no model).
    """
    model = load_model(name)
    own = {each.stage: each for each in model.config.specs}
    if spec.stage not in own:
        raise ValueError(f"start.model {name} has no stage {spec.stage}, only {sorted(own)}")
    found = own[spec.stage]
    if (found.encoder, found.padding) != (spec.encoder, spec.padding):
        raise ValueError(f"start.model {name} has other layers than the student: {found}, {spec}")
    networks = model.params[f"stage{spec.stage}"]
    if "decoder" not in networks:
        raise ValueError(f"start.model {name} has no decoder; give a whole student")
    return networks
