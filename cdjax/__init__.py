"""cdjax: universal style transfer with networks compressed by collaborative distillation."""

from cdjax.model import Config, Model
from cdjax.spec import Spec, student, teacher
from cdjax.stylization import Style, encode_style, stylize

__all__ = [
    "Config",
    "Model",
    "Spec",
    "Style",
    "encode_style",
    "student",
    "stylize",
    "teacher",
]
