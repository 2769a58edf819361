"""Masks that are damaged, of another shape, of other depths, or too few."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.fault_suite.mutations import mutate
from experiments.fault_suite.samples import HEIGHT, WIDTH, painted
from experiments.fault_suite.tries import FIT, RESULTS, UNFIT, Tries, expected_faults
from experiments.fault_suite.verdicts import Fault, Tally

_LARGE = 88
"""Times the size of the small pictures, which libvips reads."""
_MODEL = ("--weights", "../model")
_PAIR = ("../c.png", "-s", "../s.png")
_STYLES = (*_PAIR, "../contents/1.png")
_USES: dict[str, tuple[tuple[str, ...], int]] = {
    "one": ((*_PAIR, "--mask"), 1),
    "scaled": ((*_PAIR, "--content-size", "32", "--mask"), 1),
    "mixed": ((*_STYLES, "--mix", "--mask"), 1),
    "folder": (("../contents", "-s", "../s.png", "--mask"), 1),
    "regions": ((*_STYLES, "--masks"), 2),
    "of styles": ((*_STYLES, "--mix", "--style-masks"), 2),
    "too few": ((*_STYLES, "--masks"), 1),
    "too many": ((*_STYLES, "--style-masks"), 3),
}
"""Options that are followed by masks, and by how many."""


def masks(tries: Tries, numbers: Sequence[int]) -> Tally:
    """Stylises with masks; more than half of them are damaged."""
    folder = tries.folder / "masks"
    folder.mkdir()
    return tries.each("masks", 2, numbers, partial(_masked, tries, _write(folder)))


def _masked(
    tries: Tries, samples: Sequence[Path], generator: np.random.Generator
) -> tuple[str, list[Fault], bool]:
    use = str(generator.choice([*_USES]))
    options, count = _USES[use]
    chosen = [samples[int(i)] for i in generator.integers(len(samples), size=count)]
    result = RESULTS[int(generator.integers(len(RESULTS)))]
    given = [tries.place / "in" / f"{index}{path.suffix}" for index, path in enumerate(chosen)]
    for sample, path in zip(chosen, given, strict=True):
        shutil.copy(sample, path)
    how = "sound"
    if generator.random() < 0.6:
        how, data = mutate(chosen[0].read_bytes(), chosen[-1].read_bytes(), generator)
        given[0].write_bytes(data)
    output = "out" if use == "folder" else f"out{result}"
    names = [str(path.relative_to(tries.place)) for path in given]
    faults, made = tries.run(["stylize", *options, *names, "-o", output, *_MODEL], [output])
    if use.startswith("too"):
        faults += expected_faults(f"{UNFIT}{use}", made=made)
    elif how == "sound":
        worst = max((path.name for path in chosen), key=_worse)
        dark = use == "of styles" and any("black" in path.name for path in chosen)
        faults += [] if dark else expected_faults(worst, made=made)
    return f"{use}: {' '.join(path.name for path in chosen)}, {how}", faults, made


def _worse(name: str) -> int:
    """Whether what is made with a sample is known; the worst decides for several."""
    return 2 if name.startswith(UNFIT) else int(not name.startswith(FIT))


def _write(folder: Path) -> list[Path]:
    """Sound masks of 53 x 43 pixels and other sizes, and files that are no masks of them."""
    grey = painted(WIDTH, HEIGHT, 7)[..., 0]
    ramp = np.linspace(0, 1, WIDTH, dtype=np.float32) * np.ones((HEIGHT, 1), np.float32)
    soft = Image.fromarray(grey)

    def save(name: str, picture: Image.Image | NDArray[Any], **options: Any) -> None:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(folder / name, **options)

    save(f"{FIT}grey.png", soft)
    save(f"{FIT}grey.webp", soft, lossless=True)
    save(f"{FIT}colour.jpg", painted(WIDTH, HEIGHT, 8))
    save(f"{FIT}black.png", np.zeros_like(grey))
    save(f"{FIT}white.png", np.full_like(grey, 255))
    save(f"{FIT}16bit.png", grey.astype(np.uint16) * 257)
    save(f"{FIT}float.tif", ramp)
    save(f"{FIT}1bit.png", soft.convert("1"))
    save(f"{FIT}palette.png", soft.convert("P"), transparency=3)
    save(f"{FIT}grey-alpha.png", np.stack([grey, grey[::-1]], -1))
    save(f"{FIT}alpha.png", np.dstack([painted(WIDTH, HEIGHT), grey]))
    save(f"{FIT}double.png", soft.resize((2 * WIDTH, 2 * HEIGHT)))
    save(f"{FIT}small.png", soft.resize((WIDTH // 2, HEIGHT // 2)))
    save(f"{FIT}large.png", soft.resize((_LARGE * WIDTH, _LARGE * HEIGHT), Image.Resampling.BOX))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(f"{FIT}oriented.jpg", soft.transpose(Image.Transpose.ROTATE_90), exif=exif)
    save(f"{UNFIT}turned.png", grey.T)
    save(f"{UNFIT}wide.png", soft.resize((80, 10)))
    save(f"{FIT}pixel.png", soft.resize((1, 1)))
    save(f"{UNFIT}ones.png", grey // 200)
    save("nan.tif", np.where(ramp > 0.5, np.float32("nan"), ramp))
    save("levels.tif", ramp * 255)
    (folder / f"{UNFIT}empty.png").write_bytes(b"")
    (folder / f"{UNFIT}text.png").write_text("not a picture")
    return sorted(folder.iterdir())
