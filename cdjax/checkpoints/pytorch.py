"""Converts PyTorch weights into a `Model`, with strict checks of names and shapes.

The files are those of PyTorch, or safetensors with the same names.

A naming scheme, made from a `Spec`, says for every layer of a file which layer of the parameters it
is; one function applies any scheme. PyTorch kernels (out, in, height, width) become
(height, width, in, out), embeddings (out, in, 1, 1) become (in, out), and all arrays become
float32.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.checkpoints.pickle_interpreter import Foreign, Name
from cdjax.checkpoints.safetensors_file import SUFFIX
from cdjax.checkpoints.state_dict import MisfitError, Tensors, convert_fitting
from cdjax.checkpoints.store import abstract_networks, listed
from cdjax.errors import ConversionError
from cdjax.io.atomic import StrPath
from cdjax.io.digest import sha256
from cdjax.model import Model, ModelConfig, Params
from cdjax.networks.spec import VGG16_DEPTHS, VGG19_DEPTHS, Conv, Spec, student, teacher

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_DEPTHS = {"vgg16": VGG16_DEPTHS, "vgg19": VGG19_DEPTHS}
_CLASSIFIER = ("classifier.0", "classifier.3", "classifier.6")
_PARTS = {"weight": "kernel", "bias": "bias"}
_Scheme = Mapping[str, Mapping[str, str]]  # {network: {layer of the file: layer of the network}}


def _sequential(
    convs: Iterable[Conv], *, prefix: str = "", first: int = 0, padded: bool = True
) -> dict[str, str]:
    """Names in a `Sequential` of (padding,) convolution, ReLU, (resampling)."""
    names = {}
    for conv in convs:
        first += padded + conv.upsampled
        names[f"{prefix}{first}"] = conv.name
        first += 2 + conv.pooled
    return names


def torchvision_names(spec: Spec) -> dict[str, str]:
    """The encoder's convolutions by their names in torchvision, such as `"features.0"`."""
    return _sequential(spec.encoder, prefix="features.", padded=False)


def _tensor_names(layers: Iterable[str]) -> set[str]:
    return {f"{layer}.{part}" for layer in layers for part in _PARTS}


def _shape_in_file(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 1 else (*shape[:-3:-1], *(shape[:-2] or (1, 1)))


def _apply(
    tensors: Tensors, scheme: _Scheme, spec: Spec, *, file: str, ignored: Iterable[str] = ()
) -> Params:
    """`{network: {layer: {"kernel", "bias"}}}`, float32 NumPy arrays, from the tensors of a file.

    They must be exactly those of the scheme, of the spec's shapes; `ignored` layers may be there,
    and objects that are not arrays.
    """
    places = {
        f"{file_layer}.{file_part}": (network, layer, part)
        for network, layers in scheme.items()
        for file_layer, layer in layers.items()
        for file_part, part in _PARTS.items()
    }
    known = places.keys() | _tensor_names(ignored)
    faults: dict[str, list[str]] = {
        "missing": [name for name in places if name not in tensors],
        "unknown": [
            name
            for name, value in tensors.items()
            if name not in known and isinstance(value, np.ndarray)
        ],
        "misshapen": [],
        "not floating-point": [],
        "not finite": [],
    }
    expected = abstract_networks(spec)
    params: Params = {}
    for name in (name for name in places if name in tensors):
        value, (network, layer, part) = tensors[name], places[name]
        shape = expected[network][layer][part].shape
        if not isinstance(value, np.ndarray):
            kind = value.text if isinstance(value, Foreign | Name) else type(value).__name__
            faults["not floating-point"].append(f"{name} ({kind})")
        elif value.shape != _shape_in_file(shape):
            faults["misshapen"].append(f"{name} {value.shape}, expected {_shape_in_file(shape)}")
        elif not jnp.issubdtype(value.dtype, jnp.floating):
            faults["not floating-point"].append(f"{name} ({value.dtype})")
        else:
            with np.errstate(over="ignore"):  # Values too large for float32 become infinite.
                array = value.astype(np.float32)
            if not np.isfinite(array).all():
                faults["not finite"].append(name)
            if array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            into = params.setdefault(network, {}).setdefault(layer, {})
            into[part] = np.ascontiguousarray(array.reshape(shape))
    if any(faults.values()):
        raise MisfitError(f"{file}: {listed(faults)}", sum(map(len, faults.values())))
    return params


def vgg_model(tensors: Tensors, name: str, path: Path | None = None) -> Model:
    """A lone encoder from torchvision's VGG.

    The colour convolution conv0 normalises with the mean and standard deviation of ImageNet.

    Args:
        tensors: `features.N.weight`, `features.N.bias`, complete or up to some relu{k}_1. The
            deepest such stage is used; later layers and `classifier.*` are ignored.
        name: `"vgg19"` or `"vgg16"`.
        path: the file of the tensors, for messages and `ModelConfig.sources`.

    Returns:
        A model with method `"encoder"` and reflection padding. ImageNet networks were trained with
        zero padding; `dataclasses.replace(spec, padding="zero")` gives such a spec.

    Raises:
        ConversionError: if tensors are missing, unknown, misshapen, not floating-point or not
            finite; the message names all of them in one line.
    """
    depths = _DEPTHS[name]
    full = torchvision_names(teacher(5, depths=depths))
    last = int(list(full)[-1].removeprefix("features."))
    behind = [f"features.{last + 2 * n}" for n in range(1, depths[4])]
    present = [conv for layer, conv in full.items() if _tensor_names([layer]) & tensors.keys()]
    stage = max((int(conv[4]) for conv in present if conv.endswith("_1")), default=1)
    spec = teacher(stage, depths=depths)
    scheme, ignored = {"encoder": torchvision_names(spec)}, (*full, *behind, *_CLASSIFIER)
    file = "the weights" if path is None else str(path)
    params = _apply(tensors, scheme, spec, file=file, ignored=ignored)
    std = np.array(IMAGENET_STD)
    colour = {"kernel": np.diag(1 / std)[None, None], "bias": -np.array(IMAGENET_MEAN) / std}
    params["encoder"]["conv0"] = {part: a.astype(np.float32) for part, a in colour.items()}
    sources = () if path is None else ((path.name, sha256(path)),)
    config = ModelConfig("encoder", (spec,), name, sources)
    return Model({f"stage{stage}": jax.device_put(params)}, config)


def _file(folder: Path, name: str) -> Path:
    """The file of a name in either format; the PyTorch one if there is none."""
    path = folder / name
    other = path.with_suffix(SUFFIX)
    if path.is_file() and other.is_file():
        raise ConversionError(f"{path}: {other.name} exists too; remove one of them")
    return other if other.is_file() else path


def _stages(folder: Path, encoder_name: str, decoder_name: str) -> dict[int, tuple[Path, Path]]:
    if not folder.is_dir():
        raise ConversionError(f"{folder}: no such folder")
    found = {}
    for stage in range(5, 0, -1):
        pair = _file(folder, encoder_name.format(stage)), _file(folder, decoder_name.format(stage))
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
    encoder_scheme: Callable[[Spec, Tensors], _Scheme],
    decoder_scheme: Callable[[Spec, Tensors], _Scheme],
) -> Model:
    """A model of several stages from the files of each stage's encoder and decoder."""
    params: dict[str, Params] = {}
    specs = tuple(make_spec(stage) for stage in stages)
    for spec, paths in zip(specs, stages.values(), strict=True):
        networks: Params = {}
        for path, scheme in zip(paths, (encoder_scheme, decoder_scheme), strict=True):

            def convert(
                tensors: Tensors, *, spec: Spec = spec, path: Path = path, scheme: Any = scheme
            ) -> Params:
                return _apply(tensors, scheme(spec, tensors), spec, file=str(path))

            networks |= convert_fitting(path, convert)
        params[f"stage{spec.stage}"] = networks
    sources = tuple((path.name, sha256(path)) for paths in stages.values() for path in paths)
    return Model(jax.device_put(params), ModelConfig("wct", specs, "vgg19-normalised", sources))


def convert_vgg(path: StrPath, name: str | None = None) -> Model:
    """A lone encoder from a PyTorch file of torchvision's VGG; see `vgg_model`.

    The name is `"vgg19"` or `"vgg16"`, by default the one whose layers the file has. Errors are
    those of `cdjax.checkpoints.load.load_model`.
    """
    path = Path(path)

    def convert(tensors: Tensors) -> Model:
        # Only VGG-19 has a convolution at 16 (conv3_4); up to relu3_1 the two networks are alike.
        found = "vgg19" if "features.16.weight" in tensors else "vgg16"
        return vgg_model(tensors, name or found, path)

    return convert_fitting(path, convert)


def convert_wct_vgg19(folder: StrPath) -> Model:
    """The normalised VGG-19 with the decoders of the original WCT, for all stages in a folder.

    The folder contains `vgg_normalised_conv{k}_1.pth` and `feature_invertor_conv{k}_1.pth`. Errors
    are those of `cdjax.checkpoints.load.load_model`.
    """

    def encoder(spec: Spec, _: Tensors) -> _Scheme:
        return {"encoder": {"0": "conv0"} | _sequential(spec.encoder, first=1)}

    def decoder(spec: Spec, _: Tensors) -> _Scheme:
        return {"decoder": _sequential(spec.decoder)}

    stages = _stages(Path(folder), "vgg_normalised_conv{}_1.pth", "feature_invertor_conv{}_1.pth")
    return _cascade(stages, teacher, encoder, decoder)


def convert_paper_16x(folder: StrPath) -> Model:
    """The published 16x students, for all stages in a folder of `{k}SE.pth` and `{k}SD.pth`.

    Every stage keeps its own conv0 (they differ), and its embeddings if the files have them. Errors
    are those of `cdjax.checkpoints.load.load_model`.
    """

    def names(layers: Iterable[str], suffix: str = "") -> dict[str, str]:
        return {f"conv{layer[4:].replace('_', '')}{suffix}": layer for layer in layers}

    def encoder(spec: Spec, tensors: Tensors) -> _Scheme:
        scheme = {"encoder": {"conv0": "conv0"} | names(conv.name for conv in spec.encoder)}
        embeddings = names((tap for tap, _ in spec.taps), "_aux")
        if _tensor_names(embeddings) & tensors.keys():
            scheme["embedding"] = embeddings
        return scheme

    def decoder(spec: Spec, _: Tensors) -> _Scheme:
        return {"decoder": names(conv.name for conv in spec.decoder)}

    return _cascade(_stages(Path(folder), "{}SE.pth", "{}SD.pth"), student, encoder, decoder)


SOURCES: Mapping[str, Callable[[StrPath], Model]] = {
    "vgg19": lambda path: convert_vgg(path, "vgg19"),
    "vgg16": lambda path: convert_vgg(path, "vgg16"),
    "wct-vgg19": convert_wct_vgg19,
    "paper-16x": convert_paper_16x,
}
