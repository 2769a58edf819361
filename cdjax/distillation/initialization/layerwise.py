"""Layer-wise least squares: encoders and decoders fitted one convolution after the other.

Each layer is fitted on the outputs of the student's own layers before it, so that it corrects their
errors as far as it can.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cdjax.distillation.config import Start
from cdjax.distillation.initialization.fit_layer import fit_layer
from cdjax.distillation.initialization.layer_samples import (
    Sampler,
    image_blocks,
    in_batches,
    mirrored_inputs,
    pre_activations,
    sample_positions,
)
from cdjax.model import Images, Params
from cdjax.networks.spec import Spec
from cdjax.ops.least_squares import Floats, fit_relu
from cdjax.ops.samples import Samples, make_samples
from cdjax.progress import OnProgress, Progress

_HELD_OUT = 8
"""One image in so many is held out of every fit and decides when it ends."""


def _split(inputs: NDArray[Any], targets: NDArray[Any]) -> tuple[Samples, Samples]:
    """Samples to fit, and those of the last images, which are held out."""
    fitted = len(inputs) - max(1, len(inputs) // _HELD_OUT)

    def samples(part: slice) -> Samples:
        return make_samples(*(a[part].reshape(-1, a.shape[-1]) for a in (inputs, targets)))

    return samples(slice(fitted)), samples(slice(fitted, None))


def _layer_params(kernel: Floats) -> Params:
    features_in = len(kernel) // 9
    return {
        "kernel": jnp.asarray(kernel[:-1].reshape(3, 3, features_in, -1), jnp.float32),
        "bias": jnp.asarray(kernel[-1], jnp.float32),
    }


def _input_metric(kernel: NDArray[Any], activity: Floats) -> Floats:
    """Square root of sum_o a_o K_o K_o^T, (C, C): how differences of inputs change the outputs."""
    kernel = np.asarray(kernel, np.float64)
    values, vectors = np.linalg.eigh(np.einsum("hwio,hwjo,o->ij", kernel, kernel, activity))
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def _with_image(
    targets: NDArray[Any], metric: Floats, blocks: NDArray[Any], weight: float
) -> tuple[NDArray[Any], Floats]:
    """Targets with the pixels under each position appended, and the metric of both.

    All pixels together have `weight` times the variance of the features under their metric. They
    can be chosen for the linear start, where units that copy them are never cut off by the ReLU;
    this is what helps a decoder most.
    """
    features = np.maximum(targets.astype(np.float32), 0) @ metric.astype(np.float32)
    variance, pixels = (
        float(np.var(a, axis=(0, 1), dtype=np.float64).sum()) for a in (features, blocks)
    )
    scale = np.sqrt(weight * variance / max(pixels, 1e-12))
    joined = np.zeros((metric.shape[0] + blocks.shape[-1], metric.shape[1] + blocks.shape[-1]))
    joined[: metric.shape[0], : metric.shape[1]] = metric
    joined[metric.shape[0] :, metric.shape[1] :] = scale * np.eye(blocks.shape[-1])
    return np.concatenate([targets, blocks], axis=-1), joined


def fit_encoder(
    generator: np.random.Generator,
    student: Spec,
    teacher: tuple[Spec, Params],
    images: Images,
    *,
    start: Start,
    on_progress: OnProgress,
) -> tuple[Params, Params]:
    """Encoder and embeddings; arguments as for `initialize.initialize_encoder`."""
    where = sample_positions(generator, student.encoder, images.shape[:3], most=start.positions)
    run = partial(pre_activations, teacher[1], spec=teacher[0])
    targets = list(in_batches(run, images, where))
    if start.image_weight:
        blocks = in_batches(partial(image_blocks, convs=student.encoder), images, where)
    sampler = Sampler(student.encoder, student.padding, images, where)
    encoder = {"conv0": jax.tree.map(jnp.asarray, teacher[1]["conv0"])}
    embedding = {}
    for index, conv in enumerate(student.encoder):
        metric = np.eye(targets[index].shape[-1])
        if not conv.is_tap:
            following = teacher[1][student.encoder[index + 1].name]["kernel"]
            metric = _input_metric(following, (targets[index + 1] > 0).mean((0, 1)))
        wanted = targets[index]
        if start.image_weight:
            wanted, metric = _with_image(wanted, metric, blocks[index], start.image_weight)
        fit, stop = _split(sampler.inputs(encoder, index), wanted)
        layer = fit_layer(
            fit, stop, width=conv.features_out, metric=metric, iterations=start.iterations
        )
        encoder[conv.name] = _layer_params(layer.kernel)
        if conv.is_tap:
            solution = layer.solution[:, : targets[index].shape[-1]]
            embedding[conv.layer] = {
                "kernel": jnp.asarray(solution[:-1], jnp.float32),
                "bias": jnp.asarray(solution[-1], jnp.float32),
            }
        targets[index] = np.empty(0, np.float16)
        message = f"{conv.name}: {fit.count} + {stop.count} samples, {layer.summary}"
        on_progress(Progress("encoder", index + 1, len(student.encoder), message=message))
    return encoder, embedding


def fit_decoder(
    generator: np.random.Generator,
    student: Spec,
    encoder: Params,
    images: Images,
    *,
    positions: int,
    iterations: int,
    on_progress: OnProgress,
) -> Params:
    """Decoder; arguments as for `initialize.initialize_decoder`."""
    where = sample_positions(generator, student.decoder, images.shape[:3], most=positions)
    run = partial(mirrored_inputs, encoder, spec=student)
    *targets, features = in_batches(run, images, where)
    sampler = Sampler(student.decoder, student.padding, features, where)
    blocks = in_batches(partial(image_blocks, convs=student.decoder), images, where)
    decoder: Params = {}
    for index, conv in enumerate(student.decoder):
        inputs = sampler.inputs(decoder, index)
        if conv == student.decoder[-1]:
            fit, stop = _split(inputs, targets[index])
            kernel, summary = fit_relu(fit, iterations=iterations), "the image"
        else:
            metric = np.eye(conv.features_out)
            wanted, metric = _with_image(targets[index], metric, blocks[index], 1.0)
            fit, stop = _split(inputs, wanted)
            layer = fit_layer(
                fit, stop, width=conv.features_out, metric=metric, iterations=iterations
            )
            kernel, summary = layer.kernel, layer.summary
        decoder[conv.name] = _layer_params(kernel)
        message = f"{conv.name}: {fit.count} + {stop.count} samples, {summary}"
        on_progress(Progress("decoder", index + 1, len(student.decoder), message=message))
    return decoder
