"""Converts PyTorch weights into a `Model`, with strict checks of names and shapes.

A table, made from a `Spec` and a naming scheme, gives for every tensor of a file its place among
the parameters and its expected shape; one function applies any table. PyTorch kernels
(out, in, height, width) become (height, width, in, out), embeddings (out, in, 1, 1) become
(in, out), and all arrays become float32.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.checkpoints.torch_file import read_torch_file
from cdjax.errors import ConversionError
from cdjax.model import Model, ModelConfig, Params
from cdjax.networks.spec import (
    TEACHER_WIDTHS,
    VGG16_DEPTHS,
    VGG19_DEPTHS,
    Conv,
    Spec,
    student,
    teacher,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_DEPTHS = {"vgg16": VGG16_DEPTHS, "vgg19": VGG19_DEPTHS}
_CLASSIFIER = tuple(f"classifier.{n}.{part}" for n in (0, 3, 6) for part in ("weight", "bias"))
_Tensors = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """Place of a tensor of a file among the parameters.

    Attributes:
        path: keys into a stage's parameters, e.g. `("encoder", "conv1_1", "kernel")`.
        file_shape: its expected shape in the file.
        shape: its shape among the parameters, after the axes of kernels are transposed.
    """

    path: tuple[str, str, str]
    file_shape: tuple[int, ...]
    shape: tuple[int, ...]


def _layer(
    file_name: str, network: str, layer: str, features: tuple[int, int], size: int
) -> dict[str, Target]:
    features_in, features_out = features
    matrix = (features_in, features_out)
    shape = matrix if network == "embedding" else (size, size, *matrix)
    file_shape = (features_out, features_in, size, size)
    return {
        f"{file_name}.weight": Target((network, layer, "kernel"), file_shape, shape),
        f"{file_name}.bias": Target((network, layer, "bias"), (features_out,), (features_out,)),
    }


def _convolutions(network: str, names: Mapping[str, Conv]) -> dict[str, Target]:
    table: dict[str, Target] = {}
    for file_name, conv in names.items():
        features = (conv.features_in, conv.features_out)
        table |= _layer(file_name, network, conv.name, features, 3)
    return table


def _sequential(
    convs: Iterable[Conv], *, prefix: str = "", first: int = 0, padded: bool = True
) -> dict[str, Conv]:
    """Convolutions by name in a `Sequential` of (padding,) convolution, ReLU, (resampling)."""
    names = {}
    for conv in convs:
        first += padded + conv.upsampled
        names[f"{prefix}{first}"] = conv
        first += 2 + conv.pooled
    return names


def _torchvision(spec: Spec) -> dict[str, Conv]:
    return _sequential(spec.encoder, prefix="features.", padded=False)


def _paper(convs: tuple[Conv, ...]) -> dict[str, Conv]:
    return {conv.name.replace("_", ""): conv for conv in convs}


def _encoder_table(colour: str, names: Mapping[str, Conv]) -> dict[str, Target]:
    return _layer(colour, "encoder", "conv0", (3, 3), 1) | _convolutions("encoder", names)


def _embedding_table(spec: Spec) -> dict[str, Target]:
    table: dict[str, Target] = {}
    for (tap, width), teacher_width in zip(spec.taps, TEACHER_WIDTHS, strict=False):
        name = tap.replace("relu", "conv").replace("_", "") + "_aux"
        table |= _layer(name, "embedding", tap, (width, teacher_width), 1)
    return table


def apply_table(
    tensors: _Tensors, table: Mapping[str, Target], *, file: str, ignored: Iterable[str] = ()
) -> Params:
    """The parameters in the tensors of one file, which must be exactly those of a table.

    Args:
        tensors: the file's tensors by name.
        table: the place of every tensor.
        file: the file's name, for messages.
        ignored: names of tensors that may be present and are not converted.

    Returns:
        `{network: {layer: {"kernel": ..., "bias": ...}}}`, float32 NumPy arrays.

    Raises:
        ConversionError: if tensors are missing, unknown, misshapen, not floating-point or not
            finite; the message names all of them in one line.
    """
    faults: dict[str, list[str]] = {
        "missing": [name for name in table if name not in tensors],
        "unknown": [ascii(n)[1:-1] for n in tensors if n not in table and n not in set(ignored)],
        "misshapen": [],
        "not floating-point": [],
        "not finite": [],
    }
    params: Params = {}
    for name in (name for name in table if name in tensors):
        value, target = tensors[name], table[name]
        if not isinstance(value, np.ndarray):
            faults["not floating-point"].append(f"{name} ({type(value).__name__})")
        elif value.shape != target.file_shape:
            faults["misshapen"].append(f"{name} {value.shape}, expected {target.file_shape}")
        elif not jnp.issubdtype(value.dtype, jnp.floating):
            faults["not floating-point"].append(f"{name} ({value.dtype})")
        else:
            with np.errstate(over="ignore"):  # Values too large for float32 become infinite.
                array = value.astype(np.float32)
            if not np.isfinite(array).all():
                faults["not finite"].append(name)
            if array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            network, layer, part = target.path
            into = params.setdefault(network, {}).setdefault(layer, {})
            into[part] = np.ascontiguousarray(array.reshape(target.shape))
    if any(faults.values()):
        found = "; ".join(f"{what}: {', '.join(names)}" for what, names in faults.items() if names)
        raise ConversionError(f"{file}: {found}")
    return params


def _state_dict(path: Path) -> _Tensors:
    checkpoint = read_torch_file(path)
    tensors = checkpoint.get("model", checkpoint)
    if not isinstance(tensors, dict):
        raise ConversionError(f"{path}: 'model' is a {type(tensors).__name__}, not a state dict")
    return tensors


def _source(path: Path) -> tuple[str, str]:
    with open(path, "rb") as file:
        return path.name, hashlib.file_digest(file, "sha256").hexdigest()


def vgg_model(
    tensors: _Tensors,
    name: str,
    *,
    file: str = "the weights",
    sources: tuple[tuple[str, str], ...] = (),
) -> Model:
    """A lone encoder from torchvision's VGG.

    The colour convolution conv0 normalises with the mean and standard deviation of ImageNet.

    Args:
        tensors: `features.N.weight`, `features.N.bias`, complete or up to some relu{k}_1. The
            deepest such stage is used; later layers and `classifier.*` are ignored.
        name: `"vgg19"` or `"vgg16"`.
        file: the file's name, for messages.
        sources: recorded in the configuration.

    Returns:
        A model with method `"encoder"` and reflection padding. ImageNet networks were trained with
        zero padding; `dataclasses.replace(spec, padding="zero")` gives such a spec.

    Raises:
        ConversionError: as for `apply_table`.
    """
    full = _torchvision(teacher(5, depths=_DEPTHS[name]))
    last = int(list(full)[-1].removeprefix("features."))
    behind = [f"features.{last + 2 * n}" for n in range(1, _DEPTHS[name][4])]
    everything = [f"{layer}.{part}" for layer in (*full, *behind) for part in ("weight", "bias")]
    stage = 1
    for layer, conv in full.items():
        if conv.name.endswith("_1") and {f"{layer}.weight", f"{layer}.bias"} & tensors.keys():
            stage = int(conv.name[4])
    spec = teacher(stage, depths=_DEPTHS[name])
    table = _convolutions("encoder", _torchvision(spec))
    ignored = {*everything, *_CLASSIFIER} - table.keys()
    params = apply_table(tensors, table, file=file, ignored=ignored)
    std = np.array(IMAGENET_STD)
    colour = {"kernel": np.diag(1 / std)[None, None], "bias": -np.array(IMAGENET_MEAN) / std}
    params["encoder"]["conv0"] = {part: a.astype(np.float32) for part, a in colour.items()}
    config = ModelConfig("encoder", (spec,), name, sources)
    return Model({f"stage{stage}": jax.device_put(params)}, config)


def _stages(folder: Path, encoder_name: str, decoder_name: str) -> dict[int, tuple[Path, Path]]:
    if not folder.is_dir():
        raise ConversionError(f"{folder}: no such folder")
    found = {}
    for stage in range(5, 0, -1):
        pair = folder / encoder_name.format(stage), folder / decoder_name.format(stage)
        present = [path for path in pair if path.is_file()]
        if len(present) == 1:
            absent = pair[1] if present[0] == pair[0] else pair[0]
            raise ConversionError(f"{absent}: missing, although {present[0].name} exists")
        if present:
            found[stage] = pair
    if not found:
        names = f"{encoder_name.format(1)} and {decoder_name.format(1)}"
        raise ConversionError(f"{folder}: contains no weights; expected files such as {names}")
    return found


def _cascade(
    stages: Mapping[int, tuple[Path, Path]],
    make_spec: Callable[[int], Spec],
    encoder_table: Callable[[Spec, _Tensors], dict[str, Target]],
    decoder_table: Callable[[Spec], dict[str, Target]],
) -> Model:
    params: dict[str, Params] = {}
    specs: list[Spec] = []
    sources: list[tuple[str, str]] = []
    for stage, (encoder_path, decoder_path) in stages.items():
        spec = make_spec(stage)
        specs.append(spec)
        encoder, decoder = _state_dict(encoder_path), _state_dict(decoder_path)
        table = encoder_table(spec, encoder)
        params[f"stage{stage}"] = apply_table(encoder, table, file=str(encoder_path)) | apply_table(
            decoder, decoder_table(spec), file=str(decoder_path)
        )
        sources += [_source(encoder_path), _source(decoder_path)]
    config = ModelConfig("wct", tuple(specs), "vgg19-normalised", tuple(sources))
    return Model(jax.device_put(params), config)


def convert_vgg(path: str | os.PathLike[str], name: str | None = None) -> Model:
    """A lone encoder from a file of torchvision's VGG; see `vgg_model`.

    Args:
        path: the PyTorch file.
        name: `"vgg19"` or `"vgg16"`; by default the one whose layers the file has.

    Raises:
        TorchFileError: if the file cannot be read as a PyTorch file.
        ConversionError: if its tensors are not those of the network.
    """
    path = Path(path)
    tensors = _state_dict(path)
    if name is None:
        # Only VGG-19 has a convolution at 16 (conv3_4); up to relu3_1 the two networks are alike.
        name = "vgg19" if "features.16.weight" in tensors else "vgg16"
    return vgg_model(tensors, name, file=str(path), sources=(_source(path),))


def convert_wct_vgg19(folder: str | os.PathLike[str]) -> Model:
    """The normalised VGG-19 with the decoders of the original WCT, for all stages in a folder.

    Args:
        folder: contains `vgg_normalised_conv{k}_1.pth` and `feature_invertor_conv{k}_1.pth`.

    Raises:
        TorchFileError: if a file cannot be read as a PyTorch file.
        ConversionError: if a file is missing or its tensors are not those of the network.
    """
    return _cascade(
        _stages(Path(folder), "vgg_normalised_conv{}_1.pth", "feature_invertor_conv{}_1.pth"),
        teacher,
        lambda spec, _: _encoder_table("0", _sequential(spec.encoder, first=1)),
        lambda spec: _convolutions("decoder", _sequential(spec.decoder)),
    )


def convert_paper_16x(folder: str | os.PathLike[str]) -> Model:
    """The published 16x students, for all stages in a folder.

    Every stage keeps its own conv0 (they differ), and its embeddings if the files have them.

    Args:
        folder: contains `{k}SE.pth` and `{k}SD.pth`.

    Raises:
        TorchFileError: if a file cannot be read as a PyTorch file.
        ConversionError: if a file is missing or its tensors are not those of the network.
    """

    def encoder_table(spec: Spec, tensors: _Tensors) -> dict[str, Target]:
        table = _encoder_table("conv0", _paper(spec.encoder))
        embeddings = _embedding_table(spec)
        return table | embeddings if embeddings.keys() & tensors.keys() else table

    return _cascade(
        _stages(Path(folder), "{}SE.pth", "{}SD.pth"),
        student,
        encoder_table,
        lambda spec: _convolutions("decoder", _paper(spec.decoder)),
    )


SOURCES: Mapping[str, Callable[[str | os.PathLike[str]], Model]] = {
    "vgg19": lambda path: convert_vgg(path, "vgg19"),
    "vgg16": lambda path: convert_vgg(path, "vgg16"),
    "wct-vgg19": convert_wct_vgg19,
    "paper-16x": convert_paper_16x,
}
