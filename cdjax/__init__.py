"""cdjax: universal style transfer with networks compressed by collaborative distillation."""

from cdjax.checkpoint import load_model, save_model
from cdjax.model import Config, Model
from cdjax.spec import Spec, student, teacher
from cdjax.stylization import Style, encode_style, stylize

__all__ = [
    "Config",
    "Model",
    "Spec",
    "Style",
    "encode_style",
    "load_model",
    "save_model",
    "student",
    "stylize",
    "teacher",
]
