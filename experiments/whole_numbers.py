"""Whole numbers on the command line."""

import argparse


def at_least(low: int, text: str) -> int:
    """The number that a text is; one that is lower, or none, is refused in argparse's way."""
    if not text.isdecimal() or int(text) < low:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low}")
    return int(text)


def positive(text: str) -> int:
    """Likewise, from 1."""
    return at_least(1, text)
