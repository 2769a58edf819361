"""Layer-wise least squares: encoders and decoders fitted one convolution after the other.

Also fits the linear embeddings of an existing encoder (paper, section 3.2).

Each layer is fitted on the outputs of the student's own layers before it, so that it corrects their
errors as far as it can.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from cdjax.distillation.config import Start
from cdjax.distillation.initialization import layer_samples
from cdjax.distillation.initialization.fit_layer import as_params, fit_layer
from cdjax.distillation.initialization.layer_samples import Sampler, in_batches, sample_positions
from cdjax.model import Images, Params
from cdjax.networks.spec import Spec
from cdjax.ops.least_squares import Floats, fit_relu, ridge
from cdjax.ops.samples import Samples, make_samples, moments
from cdjax.progress import OnProgress, Progress

Network = tuple[Spec, Params]
_EMBEDDING_RIDGE = 1e-5
_HELD_OUT = 8
"""One image in so many is held out of every fit and decides when it ends."""


def _split(inputs: NDArray[Any], targets: NDArray[Any]) -> tuple[Samples, Samples]:
    """Samples to fit, and those of the last images, which are held out."""
    fitted = len(inputs) - max(1, len(inputs) // _HELD_OUT)

    def samples(part: slice) -> Samples:
        return make_samples(*(a[part].reshape(-1, a.shape[-1]) for a in (inputs, targets)))

    return samples(slice(fitted)), samples(slice(fitted, None))


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
    variance, pixels = (np.var(a, (0, 1), np.float64).sum() for a in (features, blocks))
    scale = np.sqrt(weight * variance / max(pixels, 1e-12))
    joined = scipy.linalg.block_diag(metric, scale * np.eye(blocks.shape[-1]))
    return np.concatenate([targets, blocks], axis=-1), joined


def fit_encoder(
    generator: np.random.Generator,
    student: Spec,
    teacher: Network,
    images: Images,
    *,
    start: Start,
    on_progress: OnProgress,
) -> dict[str, Params]:
    """Encoder and embedding; arguments and result as for `initialize.initialize_encoder`."""
    spec, params = teacher
    where = sample_positions(generator, student.encoder, images.shape[:3], most=start.positions)
    read = partial(layer_samples.pre_activations, params, spec=spec)
    targets = list(in_batches(read, images, where))
    read = partial(layer_samples.image_blocks, convs=student.encoder)
    blocks = in_batches(read, images, where) if start.image_weight else None
    sampler = Sampler(student.encoder, student.padding, images, where)
    encoder = {"conv0": jax.tree.map(jnp.asarray, params["conv0"])}
    embedding = {}
    for index, conv in enumerate(student.encoder):
        wanted = targets.pop(0)
        channels = wanted.shape[-1]
        metric = np.eye(channels)
        if not conv.is_tap:
            following = params[student.encoder[index + 1].name]["kernel"]
            metric = _input_metric(following, (targets[0] > 0).mean((0, 1)))
        if blocks:
            wanted, metric = _with_image(wanted, metric, blocks[index], start.image_weight)
        samples = _split(sampler.inputs(encoder, index), wanted)
        layer = fit_layer(*samples, conv.features_out, metric, start.iterations)
        encoder[conv.name] = as_params(layer.kernel, 3, 3)
        if conv.is_tap:
            embedding[conv.layer] = as_params(layer.solution[:, :channels])
        message = f"{conv.name}: {layer.summary}"
        on_progress(Progress("encoder", index + 1, len(student.encoder), message=message))
    return {"encoder": encoder, "embedding": embedding}


def fit_decoder(
    generator: np.random.Generator,
    student: Spec,
    encoder: Params,
    images: Images,
    *,
    start: Start,
    on_progress: OnProgress,
) -> Params:
    """Decoder; arguments as for `initialize.initialize_decoder`."""
    few = images[: start.decoder_images]
    most = start.positions * len(few) // len(images)
    where = sample_positions(generator, student.decoder, few.shape[:3], most=most)
    read = partial(layer_samples.mirrored_inputs, encoder, spec=student)
    *targets, features = in_batches(read, few, where)
    sampler = Sampler(student.decoder, student.padding, features, where)
    blocks = in_batches(partial(layer_samples.image_blocks, convs=student.decoder), few, where)
    decoder: Params = {}
    for index, conv in enumerate(student.decoder):
        inputs = sampler.inputs(decoder, index)
        if conv == student.decoder[-1]:
            fit, stop = _split(inputs, targets[index])
            kernel = fit_relu(fit, iterations=start.iterations)
            summary = f"{fit.count} + {stop.count} samples, the image"
        else:
            identity = np.eye(conv.features_out)
            wanted, metric = _with_image(targets[index], identity, blocks[index], 1.0)
            samples = _split(inputs, wanted)
            layer = fit_layer(*samples, conv.features_out, metric, start.iterations)
            kernel, summary = layer.kernel, layer.summary
        decoder[conv.name] = as_params(kernel, 3, 3)
        message = f"{conv.name}: {summary}"
        on_progress(Progress("decoder", index + 1, len(student.decoder), message=message))
    return decoder


def fit_embedding(
    rng: np.random.Generator, student: Network, teacher: Network, images: Images, *, positions: int
) -> Params:
    """Affine maps from a student's taps to the teacher's, by least squares.

    Student and teacher are spec and parameters of encoders of one stage and depths; `images` are
    (N, H, W, 3) uint8 RGB; `positions` is the number of samples of each tap, over all images.
    Returns `{"relu{k}_1": {"kernel" (in, out), "bias" (out,)}, ...}`, float32.
    """
    where = sample_positions(rng, student[0].encoder, images.shape[:3], most=positions)
    features, targets = (
        in_batches(partial(layer_samples.pre_activations, params, spec=spec), images, where)
        for spec, params in (student, teacher)
    )
    embedding = {}
    for conv, inputs, wanted in zip(student[0].encoder, features, targets, strict=True):
        if not conv.is_tap:
            continue
        after = (np.maximum(values, 0).reshape(-1, values.shape[-1]) for values in (inputs, wanted))
        samples = make_samples(*after)
        with jax.enable_x64(True):
            gram = np.asarray(moments(samples.inputs, samples.inputs))
            cross = np.asarray(moments(samples.inputs, samples.targets))
        embedding[conv.layer] = as_params(ridge(gram, cross, _EMBEDDING_RIDGE))
    return embedding
