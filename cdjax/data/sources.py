"""Sources of photographs: a folder, or a dataset of TensorFlow Datasets.

A source has a number of images and reads any of them; `cdjax.data.loader` chooses their order. Its
`fingerprint` identifies the images, independently of the machine. Sources are pickled into worker
processes and open their files there.
"""

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.errors import BrokenImageError, DataError, first_line
from cdjax.io.decoding import opened, reason
from cdjax.io.folders import is_junk
from cdjax.io.formats import FORMATS, READABLE
from cdjax.io.images import decoded, resize

_MOST_ELONGATED = 50
_MOST_PIXELS = 178_956_970  # a limit of Pillow's


class Folder:
    """The image files (by suffix) in a folder and its subfolders, sorted by path.

    Args:
        path: the folder; hidden files and folders are ignored.

    Attributes:
        not_read: a line about the other files, empty if there are none.

    Raises:
        DataError: if the folder does not exist or contains no images.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(path)
        if not self._root.is_dir():
            raise DataError(
                f"{self._root}: no such folder; give a folder, tfds:NAME for a TensorFlow "
                "dataset such as tfds:coco/2014, or dead-leaves for synthetic images"
            )
        names: list[str] = []
        others: list[str] = []
        for folder, folders, files in os.walk(self._root, followlinks=True):
            folders[:] = sorted(name for name in folders if not is_junk(name))
            below = Path(folder).relative_to(self._root)
            for name in files:
                if not is_junk(name):
                    (names if _is_image(name) else others).append((below / name).as_posix())
        self._names = sorted(names)
        what = f"{len(others)} files are" if len(others) > 1 else "1 file is"
        example = f"{self._root}: {what} not read, without the suffix of an image: "
        self.not_read = f"{example}{min(others)}" if others else ""
        if not names:
            raise DataError(f"{self._root}: no images ({', '.join(FORMATS)}, ...) in this folder")
        self.fingerprint = _digest(*self._names)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int, *, shorter_side: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3), resized to a shorter side of `shorter_side` pixels.

        Raises:
            BrokenImageError: if it cannot be read.
        """
        name = self._names[index]
        try:
            return decode(self._root / name, shorter_side=shorter_side)
        except Exception as error:  # Pillow's decoders raise exceptions of many kinds.
            why = reason(error).removeprefix(f"{self._root / name}: ")
            raise BrokenImageError(f"{name}: {why}") from error


class TfdsImages:
    """The images of a dataset that TensorFlow Datasets has prepared as ArrayRecords.

    Only files are read, and TensorFlow is not imported. (`tfds.data_source` also runs the code
    that describes the dataset, which for coco imports TensorFlow.)

    Args:
        name: the dataset, its config and optionally its version, as in `"coco/2014"` or
            `"coco/2014:1.1.0"`.
        split: a split or a part of one: `"train"`, `"train[:90%]"`.
        data_dir: where it is prepared; `None` for `$TFDS_DATA_DIR` or ~/tensorflow_datasets.

    Raises:
        DataError: if it is not prepared there as ArrayRecords (the message names the command that
            prepares it), or has no such split or no images.
    """

    def __init__(self, name: str, *, split: str, data_dir: str | None = None) -> None:
        self._name, self._split, self._data_dir = name, split, data_dir
        self._open()
        self.fingerprint = _digest(self._full_name, split, str(self._length))

    def __getstate__(self) -> dict[str, Any]:
        # Each process opens its own files.
        return {**self.__dict__, "_records": None, "_features": None}

    def __len__(self) -> int:
        return self._length

    def read(self, index: int, *, shorter_side: int) -> NDArray[np.uint8]:
        """See `Folder.read`."""
        import tensorflow_datasets as tfds

        if self._records is None:
            self._open()
        encoded = {self._key: tfds.decode.SkipDecoding()}
        try:
            example = self._features.deserialize_example_np(self._records[index], decoders=encoded)
            return decode(io.BytesIO(example[self._key]), shorter_side=shorter_side)
        except Exception as error:
            name = f"{self._full_name} {self._split} {index}"
            raise BrokenImageError(f"{name}: {reason(error)}") from error

    def _open(self) -> None:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.read_only_builder import builder_from_files

        label = f"tfds:{self._name}"
        option = "" if self._data_dir is None else f" --data_dir={self._data_dir}"
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        try:
            builder = builder_from_files(self._name, data_dir=self._data_dir)
            self._records = builder.as_data_source(self._split, deserialize_method=raw)
            info = builder.info
            missing = [p for p in info.splits[self._split].filepaths if not p.exists()]
        except (tfds.core.DatasetNotFoundError, FileNotFoundError, NotADirectoryError) as error:
            folder = self._data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
            raise DataError(
                f"{label}: not prepared in {folder}; prepare it once with: tfds build "
                f"{self._name} --file_format=array_record{option} (this command, unlike cdjax, "
                "may need TensorFlow: pip install tensorflow in an environment of its own)"
            ) from error
        except NotImplementedError as error:
            raise DataError(
                f"{label}: prepared, but not as ArrayRecords; convert it with: tfds convert_format "
                f"--dataset_version_dir={builder.data_dir} --out_file_format=array_record"
            ) from error
        except ImportError as error:
            raise DataError(
                f"{label}: needs the package array_record, which has no build for this system; "
                "use a folder of images"
            ) from error
        except (ValueError, RuntimeError, KeyError) as error:
            raise DataError(f"{label}: {first_line(error)}") from error
        self._full_name = info.full_name
        self._key = _image_feature(label, info.features, tfds.features.Image)
        if missing:
            raise DataError(f"{label}: {missing[0]} is missing; prepare the dataset again")
        self._length = len(self._records)
        if not self._length:
            raise DataError(f"{label}: the split {self._split} has no images")
        # Of all that an example holds (boxes, masks, sounds) the image alone is parsed.
        self._features = tfds.features.FeaturesDict({self._key: info.features[self._key]})


def decode(file: Path | io.BytesIO, *, shorter_side: int) -> NDArray[np.uint8]:
    """Reads an image as upright sRGB and resizes it, antialiased.

    Grey, palette, CMYK and 16-bit images are converted; transparency is composited on white.

    Args:
        file: a path, or an encoded image in memory.
        shorter_side: in pixels; a smaller image is enlarged.

    Returns:
        (H, W, 3), uint8.

    Raises:
        Exception: of any kind, if it is not an image, broken, too large (178 megapixels), or very
            long and narrow.
    """
    with warnings.catch_warnings(action="ignore"), opened(file) as image:
        if image.header.pixels > _MOST_PIXELS:
            raise ValueError("too many megapixels")
        height, width = image.header.size
        if max(height, width) > _MOST_ELONGATED * min(height, width):
            raise ValueError(f"{width} x {height} is too long and narrow")
        # A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size in a fraction of the time; resizing
        # from there makes no visible difference.
        image.draft(2 * shorter_side)
        picture = decoded(image)
    picture = resize(picture, shorter_side)
    pixels = picture.pixels
    if pixels.dtype != np.uint8:
        pixels = (pixels * 255 + 0.5).astype(np.uint8)
    if picture.alpha is not None:
        opacity = picture.alpha[..., None].astype(np.float32) / 255
        on_white = 255 + opacity * (pixels.astype(np.float32) - 255)
        pixels = (on_white + 0.5).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _image_feature(label: str, features: Any, image: type) -> str:
    """The key of the 8-bit image of an example."""
    keys = [key for key, value in features.items() if isinstance(value, image)]
    keys = [key for key in keys if np.dtype(features[key].np_dtype) == np.uint8]
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        found = ", ".join(keys) or "none"
        raise DataError(
            f"{label}: an example needs one 8-bit image, or one called image; found {found} "
            f"among {', '.join(features)}"
        )
    return str(keys[0])


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in READABLE


def _digest(*names: str) -> str:
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]
