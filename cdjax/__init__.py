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
    VideoError,
)

if TYPE_CHECKING:
    __version__: str

    from cdjax.checkpoints.load import load_model
    from cdjax.checkpoints.store import save_model
    from cdjax.cli.stylize_file import stylize_file
    from cdjax.io.images import Picture, read_image, write_image
    from cdjax.model import Model, ModelConfig
    from cdjax.networks.spec import Spec, student, teacher
    from cdjax.optimization.config import Optimization
    from cdjax.optimization.optimize import optimize_image
    from cdjax.tiling.stylize import stylize_by_windows
    from cdjax.tiling.texture import synthesize_texture
    from cdjax.transfer.mixing import mix_styles
    from cdjax.transfer.stylize import Style, encode_style, stylize
    from cdjax.video.stylize import stylize_frames

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
    "Picture",
    "Spec",
    "Style",
    "TeacherError",
    "TorchFileError",
    "TrainingError",
    "UsageError",
    "VideoError",
    "__version__",
    "encode_style",
    "load_model",
    "mix_styles",
    "optimize_image",
    "read_image",
    "save_model",
    "student",
    "stylize",
    "stylize_by_windows",
    "stylize_file",
    "stylize_frames",
    "synthesize_texture",
    "teacher",
    "write_image",
]

_LAZY = {
    "checkpoints.load": ("load_model",),
    "checkpoints.store": ("save_model",),
    "cli.stylize_file": ("stylize_file",),
    "io.images": ("Picture", "read_image", "write_image"),
    "model": ("Model", "ModelConfig"),
    "networks.spec": ("Spec", "student", "teacher"),
    "optimization.config": ("Optimization",),
    "optimization.optimize": ("optimize_image",),
    "tiling.stylize": ("stylize_by_windows",),
    "tiling.texture": ("synthesize_texture",),
    "transfer.mixing": ("mix_styles",),
    "transfer.stylize": ("Style", "encode_style", "stylize"),
    "video.stylize": ("stylize_frames",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("cdjax")
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
