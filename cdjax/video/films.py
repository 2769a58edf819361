"""Reading films: what is known of one before it is decoded, and its frames at a constant rate."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.errors import VideoError
from cdjax.io.limits import MAX_PIXELS
from cdjax.progress import OnProgress, Progress, ignore_progress
from cdjax.video.libav import library, opened
from cdjax.video.rate import Times, at_constant_rate, choose_rate, count_changes

_HD_LINES = 720
"""From this height on, films that do not say it have the colours of BT.709, not BT.601."""
_HDR = {16: "HDR10", 18: "HLG"}  # transfer characteristics

TimedFrame = tuple[Fraction | None, Any]
"""When a frame is shown, in seconds, and an `av.VideoFrame`."""


@dataclass(frozen=True)
class Film:
    """What is known of a film.

    Attributes:
        path: the file.
        size: height and width of its frames in pixels, upright.
        rate: frames a second, constant.
        start: seconds of its first frame, on the clock of its other streams.
        length: number of its frames at the constant rate.
        aspect: width of a pixel relative to its height.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    start: Fraction
    length: int
    aspect: Fraction

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)


def open_film(path: Path, on_progress: OnProgress = ignore_progress) -> Film:
    """Reads through a film once, without decoding more than its first frame.

    Args:
        path: of a file in any common format.
        on_progress: called with messages about what of the film is not kept, or missing.

    Raises:
        VideoError: if it is not a film, has no frame that can be decoded, or PyAV is missing.
    """
    with opened(path) as container:
        stream = _video(container, path)
        start, frame = next(_decoded(container, stream, [0]), (None, None))
        if frame is None:
            raise VideoError(f"{path}: no frame of this film can be decoded")
        _remark(path, container, stream, frame, on_progress)
        aspect = stream.sample_aspect_ratio or Fraction(1)
    with opened(path) as container:
        stream = _video(container, path)
        times = _times(container, stream, path, on_progress)
        candidates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
        rate = choose_rate(times, candidates)
    left_out, again = count_changes(times, rate)
    if left_out or again:
        changes = f"{left_out} frames left out, {again} shown again"
        _say(
            path, f"its rate varies; it becomes {float(rate):.5g} frames/s ({changes})", on_progress
        )
    shape, length = (frame.height, frame.width), len(times) - left_out + again
    if frame.rotation % 180:
        shape, aspect = shape[::-1], 1 / aspect
    return Film(path, shape, rate, start or Fraction(0), length, aspect)


def read_film(
    film: Film, size: tuple[int, int], on_progress: OnProgress = ignore_progress
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The frames of a film and how often each is shown at its constant rate.

    In place of a frame that cannot be decoded, the one before is shown longer.

    Args:
        film: as `open_film` found it.
        size: height and width to which the frames are scaled.
        on_progress: called with a message about damaged frames at the end.

    Yields:
        (H, W, 3), uint8, RGB, upright; and a number from 1.

    Raises:
        VideoError: if the film cannot be read any more.
    """
    damaged = [0]
    with opened(film.path) as container:
        frames = _decoded(container, _video(container, film.path), damaged)
        for frame, times in at_constant_rate(frames, film.rate):
            yield _pixels(frame, size), times
    if damaged[0]:
        count = f"{damaged[0]} damaged frame{'s' * (damaged[0] > 1)}"
        _say(film.path, f"{count}, as far as they can be decoded", on_progress)


def _video(container: Any, path: Path) -> Any:
    """The video stream of a film."""
    av = library()
    cover = av.stream.Disposition.attached_pic
    moving = [each for each in container.streams.video if not each.disposition & cover]
    if not moving:
        raise VideoError(f"{path}: has no moving pictures")
    known = [each for each in moving if each.codec_context is not None]
    if not known:
        raise VideoError(f"{path}: its video codec is unknown")
    stream = max(known, key=lambda each: each.width * each.height)
    stream.thread_type = "AUTO"
    # A later frame may claim to be larger than the first.
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS // 4)}
    return stream


def _decoded(container: Any, stream: Any, damaged: list[int]) -> Iterator[TimedFrame]:
    """Frames with their seconds; counts those that cannot be decoded."""
    error = library().error.FFmpegError
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except error:
            damaged[0] += 1
            continue
        for frame in frames:
            damaged[0] += frame.is_corrupt
            yield None if frame.pts is None else frame.pts * frame.time_base, frame


def _pixels(frame: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame as upright RGB of (height, width)."""
    quarters = round(frame.rotation / 90) % 4
    height, width = size[::-1] if quarters % 2 else size
    options: dict[str, Any] = {"interpolation": "BICUBIC"}
    if (frame.height, frame.width) != (height, width):
        options = {"width": width, "height": height, "interpolation": "LANCZOS"}
    if frame.colorspace not in (1, 5, 6, 9) and frame.height >= _HD_LINES:
        options["src_colorspace"] = "ITU709"
    pixels = frame.reformat(format="rgb24", **options).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def _remark(path: Path, container: Any, stream: Any, frame: Any, on_progress: OnProgress) -> None:
    """Says what of a film will be missing."""
    if kind := _HDR.get(frame.color_trc):
        _say(path, f"{kind}; results have the usual range, and paler colours", on_progress)
    for kind, count in (
        ("subtitle", len(container.streams.subtitles)),
        ("further video", len(container.streams.video) - 1),
    ):
        if count:
            _say(path, f"{count} {kind} stream{'s' * (count > 1)} not kept", on_progress)


def _times(container: Any, stream: Any, path: Path, on_progress: OnProgress) -> Times:
    """When the frames of a film are shown, from all of its packets."""
    times: list[Fraction | None] = []
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            times.append(None if packet.pts is None else packet.pts * packet.time_base)
    if stream.frames > len(times) + 1:
        _say(path, f"cut off: {len(times)} of its {stream.frames} frames are there", on_progress)
    # Packets are in the order of decoding, frames are shown in that of their times.
    return sorted(time for time in times if time is not None) or times


def _say(path: Path, message: str, on_progress: OnProgress) -> None:
    on_progress(Progress("film", message=f"cdjax: {path}: {message}"))
