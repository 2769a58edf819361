"""Every error that cdjax raises on purpose; each message is one line that says what to do."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class CdjaxError(ValueError):
    """Base class of the errors below.

    Arguments of the wrong type or shape raise plain `TypeError` or `ValueError`, as in NumPy.
    """


class UsageError(CdjaxError):
    """Command-line arguments that do not fit each other."""


class ImageError(CdjaxError):
    """An image file that cannot be read or written."""


class VideoError(CdjaxError):
    """A film, or a folder of its frames, that cannot be read or written."""


class CheckpointError(CdjaxError):
    """A model that cannot be found, read or written."""


class ConversionError(CdjaxError):
    """Weights that are not those of the expected network; the message names the tensors."""


class TorchFileError(CdjaxError):
    """A file that is not a PyTorch checkpoint, is damaged, or holds more than tensors."""


class PickleFileError(CdjaxError):
    """A pickle that is damaged or holds more than arrays."""


class DownloadError(CdjaxError):
    """A file that could not be downloaded, or whose content is not the expected one."""


class TeacherError(CdjaxError):
    """A teacher network that cannot be found or used."""


class DataError(CdjaxError):
    """A data source that cannot be opened as configured."""


class BrokenImageError(CdjaxError):
    """One image of a data source that cannot be decoded."""


class EvaluationError(CdjaxError):
    """Models or images that cannot be compared."""


class OptimizationError(CdjaxError):
    """Settings of an optimisation that do not fit the images or the model."""


class HostsError(CdjaxError):
    """Incomplete options of a run on several machines."""


class TrainingError(CdjaxError):
    """A training that cannot go on, such as a loss that is not finite.

    The message names the step and the last good checkpoint.
    """
