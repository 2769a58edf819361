"""Writing films: segments of frames, which are joined with the audio of the film they are made of.

A segment is a film by itself and appears whole or not at all, so that an interrupted run has lost
one segment at most. To join them, packets are copied.
"""

import heapq
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.errors import VideoError
from cdjax.io.atomic import atomic_file
from cdjax.video.films import Film
from cdjax.video.libav import library, opened, reported

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffixes of films that are written, and libav's names of their formats."""

DEFAULT_CRF = 18
_TICKS = 10_000  # a second, at least: the precision of the first frame's time
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER"}
"""Metadata that describes a file itself."""
_BT709, _LIMITED = 1, 1  # as H.264 numbers colour spaces and ranges

Timed = tuple[Fraction, Any]
"""A packet and the seconds at which it is decoded."""


def check_container(path: Path) -> None:
    """Raises `VideoError` if films with the suffix of a path are not written."""
    if path.suffix.lower() not in CONTAINERS:
        known = ", ".join(CONTAINERS)
        raise VideoError(f"{path}: unknown suffix {path.suffix!r}; films are written as {known}")


@contextmanager
def segment_writer(
    path: Path, size: tuple[int, int], rate: Fraction, *, crf: int, aspect: Fraction
) -> Iterator[Any]:
    """Yields a function that appends a frame, (H, W, 3) uint8, to a new H.264 film without audio.

    Sides are made even by repeating the last row or column: players show nothing but 4:2:0, which
    has a colour for every second pixel.

    Args:
        path: of the film, an MP4 file; it appears at the end of the context.
        size: height and width of the frames.
        rate: frames a second.
        crf: 0 (without loss) to 51, the constant rate factor of x264.
        aspect: width of a pixel relative to its height.

    Raises:
        VideoError: if it cannot be written.
    """
    av = library()
    height, width = (length + length % 2 for length in size)
    with (
        reported(f"{path.parent}: cannot be written"),
        atomic_file(path) as temporary,
        av.open(f"file:{temporary}", "w", format="mp4") as container,
    ):
        stream = container.add_stream("libx264", rate=rate, width=width, height=height)
        stream.pix_fmt = "yuv420p"
        # Without frames that refer to later ones, packets of segments follow each other by number.
        stream.options = {"crf": str(crf), "bf": "0"}
        stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.color_range = _LIMITED
        for name in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, _BT709)

        def write(pixels: NDArray[np.uint8]) -> None:
            more = [(0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)]
            frame = av.VideoFrame.from_ndarray(np.pad(pixels, more, "edge"), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG",
                interpolation="AREA",
            )  # fmt: skip
            container.mux(stream.encode(frame))

        yield write
        container.mux(stream.encode())


def check_audio(film: Film, output: Path) -> None:
    """Raises `VideoError` if the format of an output has no place for the audio of a film.

    Some formats say so only when they are closed, so the first packet of each stream is tried.
    """
    with opened(film.path) as source:
        waiting = {stream.index: stream for stream in source.streams.audio}
        for packet in source.demux(source.streams.audio) if waiting else ():
            if packet.stream.index in waiting and not (packet.size and packet.pts is None):
                _try(packet, waiting.pop(packet.stream.index), film, output)
            if not waiting:
                return


def _try(packet: Any, stream: Any, film: Film, output: Path) -> None:
    """Writes a packet, unless it is an empty one, to a film that is not kept."""
    av, suffix = library(), output.suffix.lower()
    try:
        with av.open(io.BytesIO(), "w", format=CONTAINERS[suffix]) as target:
            copy = target.add_stream_from_template(stream)
            copy.time_base = stream.time_base
            if packet.size:
                packet.stream = copy
                target.mux_one(packet)
    except (ValueError, av.error.FFmpegError) as error:
        codec = stream.codec_context.name if stream.codec_context else "an unknown codec"
        reason = f"{suffix} has no place for the audio of {film.path}, {codec}"
        remedy = "" if suffix == ".mkv" else "; .mkv has"
        raise VideoError(f"{output}: {reason}{remedy}") from error


def join(
    segments: Sequence[Path],
    output: Path,
    rate: Fraction,
    *,
    film: Film | None = None,
    strip: bool = False,
    overwrite: bool = True,
) -> None:
    """Joins segments to a film, with the audio, metadata and chapters of another one.

    Args:
        segments: films that `segment_writer` wrote with the same settings; at least one.
        output: the film to write. Its suffix is in `CONTAINERS`.
        rate: frames a second.
        film: whose audio is copied without being encoded again; None: there is no audio.
        strip: whether metadata and chapters are left out.
        overwrite: whether an existing file is replaced.

    Raises:
        VideoError: if the file exists and is not to be replaced, or cannot be written.
    """
    av, kind = library(), CONTAINERS[output.suffix.lower()]
    # With the index first, a film starts to play before all of it is loaded.
    options = {} if kind == "matroska" else {"movflags": "+faststart"}
    with ExitStack() as stack:
        source = stack.enter_context(opened(film.path)) if film else None
        first = stack.enter_context(opened(segments[0]))
        stack.enter_context(reported(f"{output}: cannot be written"))
        temporary = stack.enter_context(atomic_file(output, overwrite=overwrite))
        target = av.open(f"file:{temporary}", "w", format=kind, options=options)
        target = stack.enter_context(target)
        pictures = target.add_stream_from_template(first.streams.video[0])
        packets = [_of_segments(segments, pictures, rate, _delay(film, source))]
        if source is not None:
            packets.append(_of_audio(source, target, strip))
        for _, packet in heapq.merge(*packets, key=lambda timed: timed[0]):
            target.mux_one(packet)


def _zero(source: Any) -> Fraction:
    """The seconds at which the clock of a result starts, on that of its source.

    Not those of audio that begins before 0, where players leave out what decoders need in advance.
    """
    return max(Fraction(0), Fraction(source.start_time or 0, library().time_base))


def _delay(film: Film | None, source: Any) -> Fraction:
    """The seconds of the first frame in a result."""
    return Fraction(0) if film is None else max(Fraction(0), film.start - _zero(source))


def _of_segments(
    segments: Sequence[Path], stream: Any, rate: Fraction, delay: Fraction
) -> Iterator[Timed]:
    """The packets of segments, one after the other, at a constant rate."""
    ticks = -(-_TICKS // rate.numerator)
    tick = stream.time_base = Fraction(1, rate.numerator * ticks)  # Formats may choose another.
    duration, position = rate.denominator * ticks, round(delay / tick)
    for path in segments:
        with opened(path) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    packet.time_base = tick
                    packet.pts = packet.dts = position
                    packet.duration, packet.stream = duration, stream
                    yield position * tick, packet
                    position += duration


def _of_audio(source: Any, target: Any, strip: bool) -> Iterator[Timed]:
    """The audio packets of a film, for new streams of a target that gets its metadata too."""
    zero, streams = _zero(source), {}
    for stream in source.streams.audio:
        streams[stream.index] = copy = target.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        if not strip:
            copy.metadata.update(stream.metadata)
    if not strip:
        kept = {name: of for name, of in source.metadata.items() if name not in _OF_THE_FILE}
        target.metadata.update(kept)
        target.set_chapters(source.chapters())
    return _packets(source, streams, zero)


def _packets(source: Any, streams: Mapping[int, Any], zero: Fraction) -> Iterator[Timed]:
    if not streams:
        return
    for packet in source.demux(source.streams.audio):
        if packet.size and packet.pts is not None:
            shift = round(zero / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = streams[packet.stream_index]
            yield packet.dts * packet.time_base, packet
