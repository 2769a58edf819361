"""Image files and TensorFlow Datasets, as sources of batches."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cdjax.data.loader import Batches, DataConfig
from cdjax.data.pairs import Pairs
from cdjax.data.sources import Folder, decode
from cdjax.distillation.config import DistillationConfig, Styles
from cdjax.errors import BrokenImageError, DataError
from tests.pictures import encoded, numbers, picture

COUNT = 10
SMALL = {"shorter_side": 40, "crop": 32, "batch": 4}
ROOT = Path(__file__).parents[2]


def mean(file: io.BytesIO) -> list[int]:
    pixels = decode(file, shorter_side=20)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (20, 20, 3)
    return [round(value) for value in pixels.mean(axis=(0, 1))]


def test_every_kind_of_image_becomes_rgb() -> None:
    size = (20, 20)
    assert mean(encoded(Image.new("L", size, 90))) == [90, 90, 90]
    assert mean(encoded(Image.new("1", size, 1))) == [255, 255, 255]
    deep = Image.fromarray(np.full(size, 90 * 257, np.uint16))
    assert mean(encoded(deep)) == [90, 90, 90]
    palette = Image.new("RGB", size, (200, 30, 60)).quantize(4)
    assert mean(encoded(palette)) == [200, 30, 60]
    clear = Image.new("RGBA", size, (200, 30, 60, 0))
    assert mean(encoded(clear)) == [255, 255, 255]
    assert mean(encoded(clear, "WEBP", lossless=True)) == [255, 255, 255]
    half = Image.new("LA", size, (0, 51))
    assert mean(encoded(half)) == [204, 204, 204]
    cmyk = Image.new("CMYK", size, (0, 255, 255, 0))
    red = mean(encoded(cmyk, "JPEG", quality=95))
    np.testing.assert_allclose(red, [255, 0, 0], atol=4)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = Image.new("RGB", size, (200, 30, 60))
    assert mean(encoded(tagged, "TIFF", icc_profile=srgb)) == [200, 30, 60]


def test_images_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise by a quarter.
    file = encoded(picture(0, 64, 48), "JPEG", exif=exif, quality=95)
    pixels = decode(file, shorter_side=48)
    assert pixels.shape == (64, 48, 3)
    # What grew to the right now grows downwards, and what grew downwards to the left.
    np.testing.assert_array_less(pixels[0, :, 0], 40)
    np.testing.assert_array_less(200, pixels[-1, :, 0])
    np.testing.assert_array_less(pixels[:, -1, 1], 40)


def test_large_jpegs_look_the_same_as_with_a_full_decode() -> None:
    large = picture(4, 1600, 1200)
    pixels = decode(encoded(large, "JPEG", quality=95), shorter_side=60)
    expected = np.asarray(large.resize((80, 60), Image.Resampling.LANCZOS))
    assert np.abs(pixels.astype(int) - expected).max() < 6


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real data set of ten good images and a broken one, written by TFDS as ArrayRecords.

    It has the name of a real one, whose own code imports TensorFlow as soon as it is run.
    """
    pytest.importorskip("array_record", reason="array_record has no build for this system")
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="png"),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
        }
    )

    with tfds.core.registered.skip_registration():

        class Coco(tfds.core.GeneratorBasedBuilder):
            # A class of a package would make TFDS look for importlib_resources.
            __module__ = "coco"
            VERSION = tfds.core.Version("1.1.0")
            BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="2014"),)

            def _info(self) -> tfds.core.DatasetInfo:
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, downloads: Any) -> dict[str, Any]:
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Iterator[tuple[int, Any]]:
                for number in range(COUNT + 1):
                    file = encoded(picture(number))
                    if number == COUNT:
                        file = io.BytesIO(file.getvalue()[:60])
                    box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
                    example = {"image/filename": f"{number}.png", "objects": [{"bbox": box}]}
                    yield number, {"image": file, **example}

    folder = tmp_path_factory.mktemp("tfds")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        Coco(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def coco(tfds_dir: Path, **more: Any) -> DataConfig:
    return DataConfig("tfds:coco/2014", data_dir=str(tfds_dir), **{**SMALL, **more})


def test_tfds_images_are_read_and_the_broken_one_is_skipped(tfds_dir: Path) -> None:
    with Batches(coco(tfds_dir)) as data:
        assert data.examples_per_epoch == COUNT + 1
        images = np.concatenate(list(islice(data, 6)))
        assert data.skipped == 1
        assert re.match(r"coco/2014/1.1.0 train \d+: ", data.broken[0])
    seen = numbers(images)
    assert set(seen) == set(range(COUNT))
    with Batches(coco(tfds_dir, split="train[:5]")) as data:
        assert data.examples_per_epoch == 5


def test_tfds_position(tfds_dir: Path) -> None:
    with Batches(coco(tfds_dir)) as data:
        list(islice(data, 2))
        state = data.state()
        expected = list(islice(data, 4))
    with Batches(coco(tfds_dir, workers=1)) as data:
        data.restore(state)
        np.testing.assert_array_equal(list(islice(data, 4)), expected)


def test_styles_of_pairs_can_be_a_tfds_dataset(tfds_dir: Path) -> None:
    styles = Styles("tfds:coco/2014", split="train[:4]", data_dir=str(tfds_dir))
    data = DataConfig("dead-leaves", **SMALL)
    recipe = DistillationConfig(method="adain", stages=(4,), data=data, styles=styles)
    with Pairs(recipe.data, recipe.style_data) as pairs:
        images = np.concatenate(list(islice(pairs, 5)))
    assert images.shape == (20, 2, 32, 32, 3)
    # Which four they are is TFDS's to say: it shuffles what it prepares.
    assert 1 < len(set(numbers(images[:, 1]))) <= 4
    with Pairs(coco(tfds_dir), recipe.style_data) as pairs:
        assert next(pairs).shape == (4, 2, 32, 32, 3)


def test_tensorflow_is_never_imported(tfds_dir: Path, tmp_path: Path) -> None:
    # Not even where it is installed: a stand-in tells whether it was.
    (tmp_path / "tensorflow").mkdir()
    marker = tmp_path / "imported"
    text = f"open({str(marker)!r}, 'w').close()\n__version__ = '2.99.0'\n"
    (tmp_path / "tensorflow" / "__init__.py").write_text(text)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from cdjax.data.loader import DataConfig, Batches, DataError\n"
        "if __name__ == '__main__':\n"
        "    for name, workers in (('coco/2014', 0), ('coco/2014', 1), ('coco/2017', 0)):\n"
        f"        options = dict({SMALL!r}, workers=workers, data_dir={str(tfds_dir)!r})\n"
        "        try:\n"
        "            with Batches(DataConfig('tfds:' + name, **options)) as data:\n"
        "                print(next(data).shape)\n"
        "        except DataError:\n"
        "            print('not prepared')\n"
        "    print('tensorflow' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert result.stdout.split("\n")[:4] == [*["(4, 32, 32, 3)"] * 2, "not prepared", "False"]
    assert not marker.exists()


def test_tfds_that_cannot_be_had(tfds_dir: Path, tmp_path: Path) -> None:
    command = f"tfds build coco/2017 --file_format=array_record --data_dir={tfds_dir}"
    with pytest.raises(DataError, match=re.escape(command)) as error:
        Batches(DataConfig("tfds:coco/2017", data_dir=str(tfds_dir)))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"Unknown split 'test'"):
        Batches(coco(tfds_dir, split="test"))
    copy = tmp_path / "copy"
    shutil.copytree(tfds_dir, copy)
    (info,) = copy.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match=rf"tfds convert_format .*{info.parent}"):
        Batches(coco(copy))
    info.write_text(info.read_text().replace("tfrecord", "array_record"))
    (shard,) = copy.rglob("*.array_record*")
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name} is missing"):
        Batches(coco(copy))


def test_a_broken_image_is_told_in_one_line_and_nothing_else(tmp_path: Path) -> None:
    """Warnings are errors here: in a process that reads ahead, Pillow's would be printed."""
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IHHHII", 8, 2, 0x100, 4, 1, 2**31) + bytes(4))
    with pytest.raises(BrokenImageError, match=r"^broken\.tif: not an image, or broken, or not"):
        Folder(tmp_path).read(0, shorter_side=32)
    path.unlink()
    header = b"IHDR" + struct.pack(">II5B", 20000, 20000, 1, 0, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(header))
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + check + bytes(4) + b"IDAT"
    lengths = struct.pack(">I4sI", len(bomb) + 16, b"ic10", len(bomb) + 8)
    (tmp_path / "icon.icns").write_bytes(b"icns" + lengths + bomb)
    with pytest.raises(BrokenImageError, match=r"^icon\.icns: broken image \(Image size"):
        Folder(tmp_path).read(0, shorter_side=32)
    (tmp_path / "icon.icns").rename(tmp_path / "long.png")
    Image.new("L", (1, 40000)).save(tmp_path / "long.png")
    with pytest.raises(BrokenImageError, match=r"^long\.png: 1x40000 pixels, too long"):
        Folder(tmp_path).read(0, shorter_side=32)
