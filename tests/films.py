"""Small films, made by PyAV where it is installed."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models import random_image

RATE = Fraction(30000, 1001)


def pictures(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Frames in which a square moves over a picture."""
    frames = []
    for number in range(count):
        frame = random_image(height, width)
        frame[8:24, 3 * number : 3 * number + 16] = (250, 240, 20)
        frames.append(frame)
    return frames


def write_film(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    rate: Fraction = RATE,
    codec: str = "libx264",
    audio: str | None = None,
    milliseconds: Sequence[int] | None = None,
    rotation: int = 0,
    title: str = "",
) -> None:
    """Writes a film, with a tone if there is an audio codec, its frames at given times if any."""
    av = pytest.importorskip("av")
    frames = list(frames)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        if codec == "ffv1":
            stream.pix_fmt = "bgr0"
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream(audio, rate=44100, layout="stereo") if audio else None
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            samples = int(44100 * len(frames) / rate)
            wave = np.sin(np.arange(samples, dtype=np.float32) / 20) * np.ones((2, 1), np.float32)
            if tone.format.name == "s16":
                wave = (wave.T.reshape(1, -1) * 10_000).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(wave, format=tone.format.name, layout="stereo")
            sound.sample_rate = 44100
            container.mux(tone.encode(sound))
            container.mux(tone.encode())


def read_frames(path: Path) -> NDArray[np.uint8]:
    """All frames of a film."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return np.stack(frames)


def audio_packets(path: Path) -> list[bytes]:
    """The bytes of a film's audio packets."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def facts(path: Path) -> dict[str, Any]:
    """What the file says of itself."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return {
            "rate": stream.average_rate,
            "size": (stream.width, stream.height),
            "format": stream.pix_fmt,
            "title": container.metadata.get("title"),
            "start": float((stream.start_time or 0) * stream.time_base),
        }
