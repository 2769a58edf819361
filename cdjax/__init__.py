"""cdjax: universal style transfer with networks compressed by collaborative distillation.

Names are imported when first used: the command line answers at once, and the processes that only
read images never load JAX.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cdjax.errors import (
    BrokenImageError,
    CdjaxError,
    CheckpointError,
    ConversionError,
    DataError,
    DownloadError,
    EvaluationError,
    HostsError,
    ImageError,
    OptimizationError,
    PickleFileError,
    TeacherError,
    TorchFileError,
    TrainingError,
    UsageError,
)

if TYPE_CHECKING:
    __version__: str

    from cdjax.checkpoints.load import load_model
    from cdjax.checkpoints.store import save_model
    from cdjax.model import Model, ModelConfig
    from cdjax.networks.spec import Spec, student, teacher
    from cdjax.optimization.config import Optimization
    from cdjax.optimization.optimize import optimize_image
    from cdjax.tiling.stylize import stylize_by_windows
    from cdjax.transfer.mixing import mix_styles
    from cdjax.transfer.stylize import Style, encode_style, stylize

__all__ = [
    "BrokenImageError",
    "CdjaxError",
    "CheckpointError",
    "ConversionError",
    "DataError",
    "DownloadError",
    "EvaluationError",
    "HostsError",
    "ImageError",
    "Model",
    "ModelConfig",
    "Optimization",
    "OptimizationError",
    "PickleFileError",
    "Spec",
    "Style",
    "TeacherError",
    "TorchFileError",
    "TrainingError",
    "UsageError",
    "__version__",
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
    "ModelConfig": "model",
    "Model": "model",
    "Optimization": "optimization.config",
    "Spec": "networks.spec",
    "Style": "transfer.stylize",
    "encode_style": "transfer.stylize",
    "load_model": "checkpoints.load",
    "mix_styles": "transfer.mixing",
    "optimize_image": "optimization.optimize",
    "save_model": "checkpoints.store",
    "student": "networks.spec",
    "stylize": "transfer.stylize",
    "stylize_by_windows": "tiling.stylize",
    "teacher": "networks.spec",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("cdjax")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
