"""Films that are damaged, without audio, of one frame, of odd sizes, or no films.

They come from the writer of the tests, as the weights in `experiments.fault_suite.samples`.
"""

import shutil
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.fault_suite.mutations import mutate
from experiments.fault_suite.samples import painted
from experiments.fault_suite.tries import FIT, UNFIT, Tries, expected_faults
from experiments.fault_suite.verdicts import Fault, Tally, wrong_files

_WIDTH, _HEIGHT = 54, 44
_OUTPUTS = ("out.mp4", "out.mkv", "out.mov", "frames")
_MODEL = ("--weights", "../model")
_OPTIONS: tuple[tuple[str, ...], ...] = (
    (), (), (), ("--content-size", "32"), ("--smoothing", "1"), ("--strip",),
    ("--preserve-color", "match"), ("--preserve-color", "luminance"),
)  # fmt: skip


def films(tries: Tries, numbers: Sequence[int]) -> Tally:
    """Repaints films and folders of frames; more than half of them are damaged."""
    folder = tries.folder / "films"
    folder.mkdir()
    return tries.each("films", 3, numbers, partial(_film, tries, _write(folder)))


def _film(
    tries: Tries, samples: Sequence[Path], generator: np.random.Generator
) -> tuple[str, list[Fault], bool]:
    sample, other = (samples[int(i)] for i in generator.integers(len(samples), size=2))
    output = str(generator.choice(_OUTPUTS))
    options = _OPTIONS[int(generator.integers(len(_OPTIONS)))]
    given = tries.place / "in" / sample.name
    shutil.copytree(sample, given) if sample.is_dir() else shutil.copy(sample, given)
    how = "sound"
    if generator.random() < 0.65:
        damaged, source = (min(p.iterdir()) if p.is_dir() else p for p in (given, other))
        how, data = mutate(damaged.read_bytes(), source.read_bytes(), generator)
        damaged.write_bytes(data)
    arguments = ["video", f"in/{sample.name}", "../s.png", "-o", output, *options, *_MODEL]
    faults, made = tries.run(arguments, [output])
    if how == "sound":
        faults += expected_faults(sample.name, made=made)
    if made:
        faults += _film_faults(tries.place / output)
    return f"{sample.name}, {how}, {output} {options}", faults, made


def _film_faults(path: Path) -> list[Fault]:
    """Faults of a film, or of a folder of frames, that should be whole."""
    import av

    try:
        if path.is_dir():
            count = len([Image.open(frame).load() for frame in path.iterdir()])
        else:
            with av.open(str(path)) as container:
                count = len([*container.decode(video=0)])
    except Exception as error:  # Decoders raise exceptions of many kinds.
        return [wrong_files(f"{path.name} is not whole: {error}")]
    return [] if count else [wrong_files(f"{path.name} has no frames")]


def _write(folder: Path) -> list[Path]:
    """Films of the common formats, and files that are none."""
    import av

    from tests.films import write_film

    frames = [painted(_WIDTH, _HEIGHT, seed) for seed in range(6)]
    odd = [painted(53, 43, seed) for seed in range(3)]
    write_film(folder / f"{FIT}sound.mp4", frames, audio="aac", title="a film")
    write_film(folder / f"{FIT}silent.mp4", frames)
    write_film(folder / f"{FIT}long.mp4", frames * 5)
    write_film(folder / f"{FIT}one.mp4", frames[:1])
    write_film(folder / f"{FIT}turned.mp4", frames, rotation=90)
    write_film(folder / f"{FIT}tiny.mkv", [frame[:2, :2] for frame in frames], codec="ffv1")
    write_film(folder / f"{FIT}odd.mkv", odd, codec="ffv1", rate=Fraction(25))
    write_film(folder / f"{FIT}vp8.webm", frames, codec="libvpx")
    write_film(folder / f"{FIT}vp9.webm", frames, codec="libvpx-vp9")
    write_film(folder / "mpeg.avi", frames, codec="mpeg4", audio="pcm_s16le")
    times = [0, 40, 90, 400, 410, 900]
    write_film(folder / f"{FIT}uneven.mkv", frames, codec="ffv1", milliseconds=times)
    pictures = [Image.fromarray(frame) for frame in odd]
    pictures[0].save(folder / f"{FIT}clip.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(folder / f"{FIT}one.gif")
    (folder / f"{FIT}frames").mkdir()
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{FIT}frames" / f"{index}.png")
    (folder / f"{UNFIT}empty.mp4").write_bytes(b"")
    (folder / f"{UNFIT}text.webm").write_text("not a film")
    with av.open(str(folder / f"{UNFIT}heard.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        tone = np.sin(np.arange(9000, dtype=np.float32) / 20)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return sorted(folder.iterdir())
