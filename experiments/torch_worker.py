"""What the worker processes of plain PyTorch have in common; imports neither JAX nor cdjax."""

import torch

from experiments.measure import Memory, resident
from experiments.plain_torch import settle


def settled_torch(platform: str) -> dict[str, str]:
    """Has PyTorch compute where JAX does, and says what it is: `device`, `platform`, `version`.

    Args:
        platform: as a JAX worker calls it; PyTorch's, which is returned, is `"cpu"` or `"cuda"`.

    Raises:
        RuntimeError: if this PyTorch cannot compute there.
    """
    cuda = platform != "cpu"
    if cuda and not torch.cuda.is_available():
        raise RuntimeError(f"JAX runs on {platform} and this PyTorch cannot; set JAX_PLATFORMS=cpu")
    settle()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "platform": "cuda" if cuda else "cpu",
        "version": torch.__version__,
    }


def torch_memory(platform: str) -> Memory:
    """Bytes in use, and the most that ever were, of PyTorch on `"cpu"` or `"cuda"`."""
    if platform == "cpu":
        return resident()
    return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
