"""`cdjax video`, as a person runs it: films and folders of frames, resumed, and bad ones."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cdjax.cli.filming
from cdjax import load_model, stylize_frames
from cdjax.cli.main import main
from cdjax.io.images import Picture, read_image, write_image
from cdjax.video import encoding, segments
from tests.films import RATE, audio_packets, facts, pictures, read_frames, write_film

av = pytest.importorskip("av", reason="films need PyAV: pip install 'cdjax[video]'")


@pytest.fixture
def work(pair: Path, uncached: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a style; segments have 4 frames."""
    for module in (segments, cdjax.cli.filming):
        monkeypatch.setattr(module, "SEGMENT", 4)
    return pair


@pytest.fixture
def options(weights: Path) -> list[str]:
    return ["--weights", str(weights)]


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("c.png", "s.png"))


def test_a_film_keeps_its_frames_rate_audio_and_metadata(
    work: Path, options: list[str], weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(work / "in.mp4", pictures(6), audio="aac", title="Film")
    command = ["video", "in.mp4", "s.png", "-o", "out.mp4", *options, "--crf", "0"]
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["size"] == [64, 48]
    assert err.splitlines()[-1].startswith("cdjax: out.mp4: 6 of 6 frames, frames/s ")
    assert visible(work) == ["in.mp4", "out.mp4"]
    assert audio_packets(work / "out.mp4") == audio_packets(work / "in.mp4")
    found = facts(work / "out.mp4")
    assert (found["rate"], found["size"], found["title"]) == (RATE, (64, 48), "Film")
    assert found["format"] == "yuv420p"
    model, style = load_model(str(weights)), read_image("s.png").pixels
    wanted = np.stack(list(stylize_frames(model, read_frames(work / "in.mp4"), style)))
    got = read_frames(work / "out.mp4")
    assert got.shape == wanted.shape
    # 4:2:0 has a colour for every second pixel; its brightness is that of every one.
    assert np.abs(got.mean(-1) - wanted.mean(-1)).mean() < 4
    assert main(command) == 2
    assert "already exists; --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--strip"]) == 0
    assert facts(work / "out.mp4")["title"] is None


@pytest.mark.parametrize("output", ["out.mp4", "frames"])
def test_an_interrupted_run_continues_with_equal_frames(
    work: Path,
    options: list[str],
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_film(work / "in.mp4", pictures(10))
    command = ["video", "in.mp4", "s.png", *options]
    assert main([*command, "-o", f"whole-{output}"]) == 0
    run = cdjax.cli.filming.frames_and_states
    asked = []

    def watched(*arguments: Any, **settings: Any) -> Iterator[Any]:
        for count, result in enumerate(run(*arguments, **settings)):
            if not asked and count == 6:  # In the middle of the second segment.
                asked.append(count)
                raise MemoryError
            yield result
        asked.append(count + 1)

    monkeypatch.setattr(cdjax.cli.filming, "frames_and_states", watched)
    assert main([*command, "-o", output]) == 2
    assert not (work / output).exists()
    capsys.readouterr()
    assert main([*command, "-o", output]) == 0
    assert "cdjax: continues after frame 4\n" in capsys.readouterr().err
    assert asked == [6, 6]  # Of 10 frames, 4 were finished.
    assert not list(work.glob(".cdjax*"))
    if output == "frames":
        names = [f"{number:06}.png" for number in range(1, 11)]
        assert sorted(path.name for path in (work / output).iterdir()) == names
        for name in names:
            one, other = (read_image(work / folder / name) for folder in (output, "whole-frames"))
            np.testing.assert_array_equal(one.pixels, other.pixels)
    else:
        np.testing.assert_array_equal(
            read_frames(work / output), read_frames(work / f"whole-{output}")
        )


def test_a_folder_of_frames_becomes_a_film_or_a_folder(
    work: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "in").mkdir()
    for number, frame in enumerate(pictures(3, 33, 35), 8):  # 8, 9, 10: sorted by name.
        write_image(work / "in" / f"{number:02}.png", Picture(frame))
    command = ["video", "in", "s.png", *options, "-q"]
    assert main([*command, "-o", "out.mkv", "--rate", "12.5", "--crf", "0"]) == 0
    assert capsys.readouterr().err == ""
    (work / "in" / "09.cr2").write_text("raw")
    assert main([*command, "-o", "out/"]) == 2  # A frame may be missing.
    assert capsys.readouterr().err.startswith("cdjax: error: in/09.cr2: not read: a raw photograph")
    (work / "in" / "09.cr2").unlink()
    film = read_frames(work / "out.mkv")
    assert facts(work / "out.mkv")["rate"] == Fraction(25, 2)
    assert film.shape == (3, 34, 36, 3)  # Even sides, for players.
    assert [path.name for path in sorted((work / "out").iterdir())] == [
        "000001.png",
        "000002.png",
        "000003.png",
    ]
    for number in range(3):
        pixels = read_image(work / "out" / f"00000{number + 1}.png").pixels
        assert pixels.shape == (33, 35, 3)
        assert np.abs(film[number, :33, :35].mean(-1) - pixels.mean(-1)).mean() < 4
    (work / "out" / "mine.txt").write_text("mine")
    assert main([*command, "-o", "out"]) == 2
    assert main([*command, "-o", "out", "--overwrite", "--alpha", "0.5"]) == 0
    assert (work / "out" / "mine.txt").read_text() == "mine"
    assert not np.array_equal(read_image(work / "out" / "000003.png").pixels, pixels)


def test_masks_are_one_picture_or_one_a_frame(
    work: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    frames = pictures(3)
    write_film(work / "in.mkv", frames, codec="ffv1")
    masks = np.zeros((3, 48, 64, 1), np.uint8) + np.zeros(3, np.uint8)
    for number, mask in enumerate(masks):
        mask[:, : 12 * number] = 255
    (work / "masks").mkdir()
    for number, mask in enumerate(masks):
        write_image(work / "masks" / f"{number}.png", Picture(mask))
    write_film(work / "masks.mkv", masks, codec="ffv1")
    write_image(work / "one.png", Picture(masks[2]))
    made = {}
    for mask in ("one.png", "masks", "masks.mkv"):
        folder = work / f"of-{mask.replace('.', '-')}"
        command = ["video", "in.mkv", "s.png", "-o", str(folder), "--mask", mask, *options]
        assert main([*command, "--style-masks", "one.png", "-q"]) == 0
        made[mask] = np.stack([read_image(path).pixels for path in sorted(folder.iterdir())])
    np.testing.assert_array_equal(made["masks"], made["masks.mkv"])
    np.testing.assert_array_equal(made["masks"][0], frames[0])
    for number, frame in enumerate(frames):
        for mask, width in (("one.png", 24), ("masks", 12 * number)):
            np.testing.assert_array_equal(made[mask][number][:, width:], frame[:, width:])
            assert not width or (made[mask][number][:, :width] != frame[:, :width]).any()
    capsys.readouterr()
    (work / "masks" / "2.png").unlink()
    assert main(["video", "in.mkv", "s.png", "-o", "o.mp4", "--mask", "masks", *options]) == 2
    assert "mask masks: 2 frames for the 3 of the film; give one a f" in capsys.readouterr().err
    assert not (work / "o.mp4").exists()
    assert not list(work.glob(".cdjax*"))


def test_odd_films_become_right_ones(
    work: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(work / "one.mkv", pictures(1, 47, 63), codec="ffv1", audio="pcm_s16le")
    write_film(
        work / "varying.mp4",
        pictures(4),
        rate=Fraction(25),
        milliseconds=[0, 40, 120, 160],
        rotation=90,
    )
    (work / "cut.mp4").write_bytes((work / "varying.mp4").read_bytes()[:-40])
    for name in ("one.mkv", "varying.mp4"):
        assert main(["video", name, "s.png", "-o", f"out-{name}", *options]) == 0
    err = capsys.readouterr().err
    assert "varying.mp4: its rate varies; it becomes 25 frames/s (0 frames left out, 1 " in err
    assert facts(work / "out-one.mkv")["size"] == (64, 48)
    assert audio_packets(work / "out-one.mkv") == audio_packets(work / "one.mkv")
    found = read_frames(work / "out-varying.mp4")
    assert found.shape == (5, 64, 48, 3)  # Upright.
    assert facts(work / "out-varying.mp4")["rate"] == 25
    assert main(["video", "varying.mp4", "s.png", "-o", "small.mp4", "--content-size", "30",
                 *options, "-q"]) == 0  # fmt: skip
    assert facts(work / "small.mp4")["size"] == (30, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4", "s.png", "-o", "out.mp4"], "film none.mp4: no such file or folder"),
        (["text.mp4", "s.png", "-o", "out.mp4"], "text.mp4: not a film"),
        (["empty.mp4", "s.png", "-o", "out.mp4"], "empty.mp4: not a film"),
        (["list.mp4", "s.png", "-o", "out.mp4"], "list.mp4: not a film, or broken"),
        (["c.png", "s.png", "-o", "out.mp4"], "c.png: not a film of a format that is read"),
        (["head.mp4", "s.png", "-o", "out.mp4"], "head.mp4: not a film, or broken"),
        (["sound.mp4", "s.png", "-o", "out.mp4"], "sound.mp4: has no moving pictures"),
        (["mixed", "s.png", "-o", "out.mp4"], "b.png: 30x20 pixels, but a.png has 40x20"),
        (["in.mp4", "none.png", "-o", "out.mp4"], "style none.png: no such file"),
        (["in.mp4", "in.mp4", "-o", "out.mp4"], "in.mp4: not an image"),
        (["in.mp4", "s.png", "-o", "in.mp4"], "is one of the inputs"),
        (["in.mp4", "s.png", "-o", "out.webm"], "unknown suffix '.webm'; films are written as"),
        (["in.mp4", "s.png", "-o", "no/out.mp4"], "the folder no does not exist"),
        (["in.mp4", "s.png", "-o", "out.mp4/"], "out.mp4/: is named as a film, but / is for a fo"),
        (["in.mp4", "s.png", "-o", "out.mp4", "--mask", "no.png"], "mask no.png: no such file or"),
        (["in.mp4", "s.png", "-o", "out.mp4", "--mask", "text.mp4"], "text.mp4: not a film"),
        (
            ["in.mp4", "s.png", "-o", "out.mp4", "--mask", "mixed/a.png"],
            "in.mp4: mask mixed/a.png: 40x20 pixels are another aspect ratio than the picture's, 6",
        ),
        (["in.mp4", "s.png", "-o", "old.mp4"], "old.mp4: already exists; --overwrite"),
        (["in.mp4", "s.png", "-o", "mixed"], "mixed: already exists; --overwrite"),
        (["in.mp4", "s.png", "-o", "out.mp4", "--rate", "5"], "--rate: is for folders of frames"),
        (["mixed", "s.png", "-o", "out.mp4", "--rate", "0"], "'0' is not a rate"),
        (["in.mp4", "s.png", "-o", "out.mp4", "--weights", "none"], "none: no such file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    work: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_film(work / "in.mp4", pictures(2))
    (work / "old.mp4").write_bytes(b"old")
    (work / "text.mp4").write_text("no film\n" * 99)
    (work / "empty.mp4").write_bytes(b"")
    (work / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nin.mp4\n")
    (work / "head.mp4").write_bytes((work / "in.mp4").read_bytes()[:200])
    with av.open(str(work / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode()])
    (work / "mixed").mkdir()
    for name, width in (("a.png", 40), ("b.png", 30)):
        write_image(work / "mixed" / name, Picture(np.zeros((20, width, 3), np.uint8)))
    before = {path: path.is_file() and path.read_bytes() for path in work.rglob("*")}
    assert main(["video", *arguments[:2], *options, *arguments[2:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cdjax: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert {path: path.is_file() and path.read_bytes() for path in work.rglob("*")} == before


def test_audio_that_a_format_does_not_have_is_refused_before_anything_is_computed(
    work: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_film(work / "in.mkv", pictures(2), audio="aac")
    # What is written has place for every common codec; none has for subtitles of a game.
    monkeypatch.setitem(encoding.CONTAINERS, ".mp4", "ivf")
    assert main(["video", "in.mkv", "s.png", "-o", "out.mp4", *options]) == 2
    err = capsys.readouterr().err
    assert "out.mp4: .mp4 has no place for the audio of in.mkv, aac; .mkv has" in err
    monkeypatch.undo()
    monkeypatch.chdir(work)
    # MP4 says only at the end that it needs to know which channel is which.
    write_film(work / "in.avi", pictures(2), codec="mpeg4", audio="pcm_s16le")
    before = sorted(path.name for path in work.iterdir())
    assert main(["video", "in.avi", "s.png", "-o", "out.mp4", *options]) == 2
    err = capsys.readouterr().err
    assert "out.mp4: .mp4 has no place for the audio of in.avi, pcm_s16le; .mkv has" in err
    assert sorted(path.name for path in work.iterdir()) == before
