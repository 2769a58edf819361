"""cdjax: universal style transfer with networks compressed by collaborative distillation.

Names are imported when first used: the command line answers at once, and the processes that only
read images never load JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdjax.checkpoint import load_model, save_model
    from cdjax.gatys_settings import Optimization
    from cdjax.mixing import mix_styles
    from cdjax.model import Config, Model
    from cdjax.optimization import optimize_image
    from cdjax.spec import Spec, student, teacher
    from cdjax.stylization import Style, encode_style, stylize
    from cdjax.ultra import stylize_by_windows

__all__ = [
    "Config",
    "Model",
    "Optimization",
    "Spec",
    "Style",
    "encode_style",
    "load_model",
    "mix_styles",
    "optimize_image",
    "save_model",
    "student",
    "stylize",
    "stylize_by_windows",
    "teacher",
]

_MODULES = {
    "Config": "model",
    "Model": "model",
    "Optimization": "gatys_settings",
    "Spec": "spec",
    "Style": "stylization",
    "encode_style": "stylization",
    "load_model": "checkpoint",
    "mix_styles": "mixing",
    "optimize_image": "optimization",
    "save_model": "checkpoint",
    "student": "spec",
    "stylize": "stylization",
    "stylize_by_windows": "ultra",
    "teacher": "spec",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
