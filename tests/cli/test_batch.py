"""Running the jobs of a command line: what is computed once, and what becomes of faults."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cdjax import Model, Spec, stylize
from cdjax.cli import painting
from cdjax.cli.batch import run
from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Settings, plan
from cdjax.errors import ImageError
from cdjax.io.images import (
    Picture,
    read_image,
    write_image,
)
from tests.models import random_image, random_model

SIZE = (24, 32)
FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of\nmemory allocating 9 bytes.")


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model((Spec(1, (4,)),))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Two contents, two styles."""
    for seed, name in enumerate(("in/a.png", "in/b.png", "styles/x.png", "styles/y.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, Picture(random_image(*SIZE, seed=seed)))
    return plan([tmp_path / "in"], [tmp_path / "styles"], str(tmp_path / "out"))


def test_every_picture_is_its_pair_s_and_a_style_is_encoded_once(
    jobs: list[Job], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = painting.encode_style

    def counted(model: Model, pixels: NDArray[np.uint8], **options: Any) -> object:
        encoded.append(pixels)
        return encode(model, pixels, **options)

    monkeypatch.setattr(painting, "encode_style", counted)
    assert run(jobs, lambda: model, Settings(alpha=0.5), InterruptGuard()) == 0
    assert len(encoded) == 2
    assert len(jobs) == 4
    for job in jobs:
        pixels = [read_image(path).pixels for path in (job.content, *job.styles)]
        expected = np.rint(np.asarray(stylize(model, *pixels, alpha=0.5)) * 255)
        np.testing.assert_array_equal(read_image(job.output).pixels, expected)


@pytest.mark.parametrize("step", ["encode_style", "stylize"])
@pytest.mark.parametrize("fault", [MemoryError(), FULL], ids=["host", "device"])
def test_too_little_memory_is_one_line_that_says_what_helps(
    jobs: list[Job],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
    fault: Exception,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(painting, step, fail)
    option = "--content-size" if step == "stylize" else "--style-size"
    message = rf"32x24 pixels.* does not fit in memory; {option}"
    with pytest.raises(ImageError, match=message):
        run(jobs[:1], lambda: model, Settings(), InterruptGuard(), strict=True)
    assert run(jobs, lambda: model, Settings(), InterruptGuard()) == 4
    # One line for each style that cannot be encoded, or for each pair that cannot be stylised.
    errors = capsys.readouterr().err
    assert errors.count("cdjax: error: ") == (4 if step == "stylize" else 2)


def test_what_its_format_cannot_hold_is_not_computed_at_all(
    jobs: list[Job], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (16384, 99)).save(jobs[0].content)
    wide = replace(jobs[0], output=jobs[0].output.with_suffix(".webp"))
    monkeypatch.setattr(painting, "stylize", None)
    with pytest.raises(ImageError, match="16384x99 pixels, but WEBP is limited to 16383"):
        run([wide], lambda: model, Settings(), InterruptGuard(), strict=True)


def test_other_faults_of_the_device_are_not_hidden(
    jobs: list[Job], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(painting, "stylize", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run(jobs, lambda: model, Settings(), InterruptGuard())


def test_nothing_is_written_after_an_interruption(
    jobs: list[Job], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = InterruptGuard()
    done = []

    def write(path: Path, picture: Picture, **options: Any) -> None:
        write_image(path, picture, **options)
        done.append(path)
        interrupting.start()

    interrupting = threading.Thread(target=guard.interrupt)
    stylized = painting.stylize

    def stylize_after_interruption(*arguments: object, **options: object) -> object:
        if done:
            interrupting.join()
        return stylized(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(painting, "write_image", write)
    monkeypatch.setattr(painting, "stylize", stylize_after_interruption)
    with pytest.raises(KeyboardInterrupt):
        run(jobs, lambda: model, Settings(), guard)
    assert list(jobs[0].output.parent.iterdir()) == done == [jobs[0].output]


def test_an_interruption_waits_until_a_file_is_written() -> None:
    guard, inside = InterruptGuard(), threading.Event()
    order: list[str] = []

    def write() -> None:
        with guard.protected():
            inside.set()
            time.sleep(0.1)
            order.append("written")

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(10)
    guard.interrupt()
    order.append("interrupted")
    thread.join()
    assert order == ["written", "interrupted"]


def test_pictures_that_another_process_makes_in_the_meantime_are_kept(
    jobs: list[Job], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    stylized = painting.stylize
    jobs[0].output.parent.mkdir()
    jobs[2].output.write_bytes(b"theirs")

    def overtaken(*arguments: Any, **options: Any) -> Any:
        result = stylized(*arguments, **options)
        jobs[0].output.write_bytes(b"theirs")
        return result

    monkeypatch.setattr(painting, "stylize", overtaken)
    found: list[str] = []
    guard = InterruptGuard()
    failed = run(
        jobs, lambda: model, Settings(), guard, on_outcome=lambda each: found.append(each.status)
    )
    assert failed == 0
    assert found == ["already there", "made", "already there", "made"]
    assert jobs[0].output.read_bytes() == jobs[2].output.read_bytes() == b"theirs"
    with pytest.raises(ImageError, match="already exists by now and is kept"):
        run(jobs[:1], lambda: model, Settings(), guard, strict=True)
    assert run(jobs[:1], lambda: model, Settings(overwrite=True), guard) == 0
    assert read_image(jobs[0].output).pixels.shape == (*SIZE, 3)
