"""A program for tests: how much memory windows take while they are computed, in bytes."""

import ctypes
import sys

from cdjax import encode_style, student, stylize_by_windows
from tests.models import random_image, random_model

SIDE = 1100


def status(name: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) * 1024


def main(memory: int) -> None:
    model = random_model((student(4), student(1)))
    content, style = random_image(SIDE, SIDE), encode_style(model, random_image(64, 64))

    def work() -> None:
        stylize_by_windows(model, content, style, memory=memory, levels=True)

    work()  # Compilation takes memory too, once.
    # What malloc keeps of it would be there for the second run, and its peak nothing above that.
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # The peak starts anew.
    work()
    # Stage 4's features, its image, and the result.
    host = SIDE * SIDE * (128 * 4 // 64 + 12 + 3)
    print(status("VmHWM") - before - host)


if __name__ == "__main__":
    main(int(sys.argv[1]))
