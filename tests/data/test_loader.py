"""Batches of images: what is in them, in which order, and what goes wrong."""

import gc
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cdjax.data.dead_leaves import dead_leaves
from cdjax.data.loader import Batches, DataConfig
from cdjax.errors import DataError
from tests.pictures import numbers, picture

COUNT = 10
ROOT = Path(__file__).parents[2]
SMALL = {"shorter_side": 40, "crop": 32, "batch": 4}


def flipped(images: np.ndarray) -> np.ndarray:
    red = images[..., 0].astype(int)
    return red[:, 0, 0] > red[:, 0, -1]


def taken(config: DataConfig, count: int, **process: int) -> list[np.ndarray]:
    with Batches(config, **process) as data:
        return list(islice(data, count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "deeper").mkdir(parents=True)
    for number in range(COUNT):
        place = root / "deeper" if number % 2 else root
        picture(number, width=60 + number).save(place / f"{number}.png")
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_text("no image either")
    return root


@pytest.fixture
def config(folder: Path) -> DataConfig:
    return DataConfig(str(folder), **SMALL)


def test_shape_and_type(config: DataConfig) -> None:
    with Batches(config) as data:
        assert data.examples_per_epoch == COUNT
        images = next(data)
    assert type(images) is np.ndarray
    assert images.dtype == np.uint8
    assert images.shape == (4, 32, 32, 3)


def test_every_image_once_an_epoch_in_a_new_order(config: DataConfig) -> None:
    # Five batches of four are two epochs of ten: one batch lies across the end of the first.
    order = numbers(np.concatenate(taken(config, 5)))
    first, second = order[:COUNT], order[COUNT:]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second
    assert first != sorted(first)


def test_crops_and_flips_vary_and_cover_the_image(config: DataConfig) -> None:
    images = np.concatenate(taken(config, 25))
    mirrored = flipped(images)
    assert 30 < mirrored.sum() < 70
    upright = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    for channel, reach in ((0, 50), (1, 25)):
        corner = upright[:, 0, 0, channel].astype(int)
        assert len(np.unique(corner)) > 5
        assert np.ptp(corner) > reach
    assert upright[..., :2].min() < 10
    assert upright[..., :2].max() > 230


def test_scales_vary_the_size_of_what_is_cropped(folder: Path, config: DataConfig) -> None:
    # The first channel of a picture rises from 0 to 240 over its width.
    def slopes(config: DataConfig) -> np.ndarray:
        red = np.concatenate(taken(config, 5))[..., 0].astype(int)
        return np.abs(red[:, 0, -1] - red[:, 0, 0])

    plain = DataConfig(str(folder), **SMALL, flip=False)
    varied = slopes(replace(plain, scales=(0.8, 4.0)))
    assert varied.min() < 0.5 * slopes(plain).min()
    # Never smaller than the crop.
    assert taken(replace(plain, scales=(0.1, 0.2)), 1)[0].shape == (4, 32, 32, 3)
    with pytest.raises(DataError, match="scales must be"):
        replace(plain, scales=(2.0, 1.0))


def test_without_flips_the_crops_stay_the_same(folder: Path, config: DataConfig) -> None:
    plain = np.concatenate(taken(DataConfig(str(folder), **SMALL, flip=False), 3))
    images = np.concatenate(taken(config, 3))
    mirrored = flipped(images)
    assert mirrored.any()
    assert not flipped(plain).any()
    images[mirrored] = images[mirrored][:, :, ::-1]
    np.testing.assert_array_equal(images, plain)


def test_the_shorter_side_is_scaled_and_small_images_are_enlarged(tmp_path: Path) -> None:
    picture(3, width=9, height=6).save(tmp_path / "small.png")
    picture(3, width=600, height=400).save(tmp_path / "large.png")
    config = DataConfig(str(tmp_path), shorter_side=40, crop=40, batch=2, flip=False)
    (images,) = taken(config, 1)
    assert images.shape == (2, 40, 40, 3)
    # The whole height is in each crop.
    assert (images[:, 0, :, 1] < 20).all()
    assert (images[:, -1, :, 1] > 220).all()


def test_real_photographs(shared: Path) -> None:
    with Batches(DataConfig(str(shared / "images" / "content"), batch=8)) as data:
        images = next(data)
        assert data.examples_per_epoch == 3678
        assert data.skipped == 0
    assert images.shape == (8, 256, 256, 3)
    assert (images.std(axis=(1, 2, 3)) > 10).all()


def test_seeds_differ(folder: Path, config: DataConfig) -> None:
    other = DataConfig(str(folder), **SMALL, seed=1)
    assert numbers(np.concatenate(taken(config, 3))) != numbers(np.concatenate(taken(other, 3)))


def test_goes_on_with_the_exact_next_batch(config: DataConfig) -> None:
    expected = taken(config, 9)
    # In the middle of an epoch, across the end of one (batch 2 holds it), and at one.
    for done in (1, 2, 5):
        with Batches(config) as data:
            list(islice(data, done))
            state = json.loads(json.dumps(data.state()))
        with Batches(config) as data:
            data.restore(state)
            np.testing.assert_array_equal(list(islice(data, 4)), expected[done : done + 4])


def test_an_iterator_can_go_back(config: DataConfig) -> None:
    with Batches(config) as data:
        state = data.state()
        first = next(data)
        data.restore(state)
        np.testing.assert_array_equal(next(data), first)


def test_a_position_of_other_data_is_refused(folder: Path, config: DataConfig) -> None:
    state = Batches(config).state()
    for other in ({"seed": 1}, {"batch": 2}):
        with pytest.raises(DataError, match=next(iter(other))):
            Batches(DataConfig(**{"source": str(folder), **SMALL, **other})).restore(state)
    picture(0).save(folder / "new.png")
    with pytest.raises(DataError, match="source"):
        Batches(config).restore(state)


@pytest.mark.parametrize("source", ["folder", "dead-leaves"])
def test_processes_share_each_batch(source: str, folder: Path) -> None:
    config = DataConfig(str(folder) if source == "folder" else source, **SMALL)
    parts = [taken(config, 4, process_index=i, process_count=2) for i in range(2)]
    joined = [np.concatenate(both) for both in zip(*parts, strict=True)]
    np.testing.assert_array_equal(joined, taken(config, 4))


def broken_files(folder: Path) -> None:
    encoded = io.BytesIO()
    picture(0, 300, 300).save(encoded, "JPEG")
    (folder / "truncated.jpg").write_bytes(encoded.getvalue()[:2000])
    (folder / "text.png").write_text("this is no image")
    (folder / "empty.webp").write_bytes(b"")
    picture(0, 3000, 2).save(folder / "narrow.png")


def test_broken_images_are_skipped_and_counted(folder: Path, config: DataConfig) -> None:
    broken_files(folder)
    with Batches(config) as data:
        before = list(islice(data, 2))
        state = data.state()
        after = list(islice(data, 6))
        assert data.skipped == 4
        names = " ".join(data.broken)
        final = data.state()
    for name in ("truncated.jpg", "text.png", "empty.webp", "narrow.png"):
        assert name in names
    # Of each epoch of 14 the ten good ones are a part, once more at their own places.
    seen = np.concatenate(before + after)
    assert set(numbers(seen[:14])) == set(numbers(seen[14:28])) == set(range(COUNT))
    helped = DataConfig(str(folder), **SMALL, workers=1)
    with Batches(helped) as data:
        data.restore(state)
        np.testing.assert_array_equal(list(islice(data, 6)), after)
        assert data.state() == final


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_broken_images_is_an_error(tmp_path: Path, workers: int) -> None:
    broken_files(tmp_path)
    with (
        Batches(DataConfig(str(tmp_path), **SMALL, workers=workers)) as data,
        pytest.raises(DataError, match=r"images in a row are broken; the last: \w+\.") as error,
    ):
        next(data)
    assert "\n" not in str(error.value)


def test_no_images_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        Batches(DataConfig(str(tmp_path)))
    with pytest.raises(DataError, match=r"no such folder.*tfds:"):
        Batches(DataConfig("coco/2014"))


@pytest.mark.parametrize(
    "wrong", [{"crop": 64, "shorter_side": 40}, {"batch": 0}, {"workers": -1}, {"seed": -1}]
)
def test_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        DataConfig("anywhere", **wrong)


def test_processes_that_do_not_fit(config: DataConfig) -> None:
    with pytest.raises(DataError, match="3 parts"):
        Batches(config, process_count=3)
    with pytest.raises(DataError, match="no process 2"):
        Batches(config, process_index=2, process_count=2)


def test_dead_leaves_are_batches_too() -> None:
    with Batches(DataConfig("dead-leaves", crop=48, batch=3, seed=5)) as data:
        list(islice(data, 2))
        images = next(data)
        assert data.examples_per_epoch > 1000
    np.testing.assert_array_equal(images[1], dead_leaves(5, 7, size=48))


# Worker processes


def test_workers_change_nothing_and_end_when_closed_and_when_dropped(config: DataConfig) -> None:
    expected = taken(config, 7)
    data = Batches(replace(config, workers=2))
    assert not multiprocessing.active_children()
    np.testing.assert_array_equal(list(islice(data, 3)), expected[:3])
    assert len(multiprocessing.active_children()) == 2
    # What has been read ahead does not count.
    state = json.loads(json.dumps(data.state()))
    data.close()
    data.close()
    with pytest.raises(ValueError, match="closed"):
        next(data)
    assert not multiprocessing.active_children()
    data = Batches(replace(config, workers=1))
    data.restore(state)
    np.testing.assert_array_equal(list(islice(data, 4)), expected[3:])
    assert len(multiprocessing.active_children()) == 1
    del data
    gc.collect()
    assert not multiprocessing.active_children()


def test_a_worker_makes_the_same_dead_leaves() -> None:
    config = DataConfig("dead-leaves", **SMALL)
    expected = taken(config, 3)
    with Batches(config) as data:
        next(data)
        state = data.state()
    with Batches(replace(config, workers=1)) as data:
        data.restore(state)
        np.testing.assert_array_equal(list(islice(data, 2)), expected[1:])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("end", ["kill", "exit", "interrupt"])
def test_workers_end_with_the_main_process(config: DataConfig, tmp_path: Path, end: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from cdjax.data.loader import Batches, DataConfig\n"
        "if __name__ == '__main__':\n"
        f"    data = Batches(DataConfig({config.source!r}, crop=32, workers=1))\n"
        "    next(data)\n"
        "    print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    worker = int(process.stdout.readline())
    assert alive(worker)
    if end == "kill":
        process.kill()
    elif end == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # As Ctrl-C does.
    _, errors = process.communicate("\n" if end == "exit" else None, timeout=60)
    # Of an interrupt the main process alone has something to say.
    assert errors.count("Traceback") == (end == "interrupt")
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)
