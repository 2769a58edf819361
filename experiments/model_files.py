"""Models as the programs are given them: which there are, what they are called, how large they are.

A model is named by a checkpoint's folder, a folder of published PyTorch files, or the name of one
that comes with the package.
"""

from collections.abc import Sequence
from pathlib import Path

from cdjax.checkpoints.pretrained import available_models, bundled_file

_STUDENTS, _TEACHERS = "[1-5]S[ED].pth", "*conv[1-5]_1.pth"


def stored_bytes(name: str) -> int | None:
    """Bytes of the files that a model is read from; None where it has none of its own."""
    path = bundled_file(name) or Path(name)
    originals = sorted(path.glob(_STUDENTS)) or sorted(path.glob(_TEACHERS))
    files = originals or [file for file in [path, *path.rglob("*")] if file.is_file()]
    return sum(file.stat().st_size for file in files) or None


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of paths where they tell models apart; else the paths."""
    stems = [Path(name).resolve().name for name in names]
    return stems if len(set(stems)) == len(stems) else list(names)


def models_there(folder: Path) -> list[str]:
    """The bundled models, and those that lie in a folder; nothing is opened.

    Args:
        folder: of models' folders; it need not be there.
    """

    def is_model(path: Path) -> bool:
        return (path / "SHA256SUMS").is_file() or any(
            any(path.glob(pattern)) for pattern in (_STUDENTS, _TEACHERS)
        )

    # `./` tells a folder from a bundled model of the same name.
    found = [f"./{path}" if path == Path(path.name) else str(path) for path in folder.glob("*")]
    bundled = [model.name for model in available_models() if bundled_file(model.name)]
    return [*bundled, *sorted(name for name in found if is_model(Path(name)))]
