"""Network specifications: one table from which every layer, name and count is derived.

A `Spec` describes a truncated VGG encoder and its mirrored decoder. Teachers and students,
VGG-16 and VGG-19, stages 1 to 5 are values of it. Parameter names, tap names, strides, halos and
multiply-accumulate counts are derived here and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cdjax.ops.padding import Padding

VGG16_DEPTHS = (2, 2, 3, 3, 3)
VGG19_DEPTHS = (2, 2, 4, 4, 4)
TEACHER_WIDTHS = (64, 128, 256, 512, 512)
STUDENT_WIDTHS = (16, 32, 64, 128, 128)


@dataclass(frozen=True)
class Conv:
    """One 3x3 convolution of a network.

    Attributes:
        name: `conv{block}_{index}`, the VGG name; a decoder's convolution has the name of the
            encoder's convolution that it mirrors.
        features_in: input channels.
        features_out: output channels.
        level: log2 of the image pixels per position, along each axis, where it runs.
        pooled: whether 2x2 max-pooling follows it (encoder).
        upsampled: whether nearest upsampling by 2 precedes it (decoder).
    """

    name: str
    features_in: int
    features_out: int
    level: int
    pooled: bool = False
    upsampled: bool = False

    @property
    def layer(self) -> str:
        """`relu{block}_{index}`, the name of the activations that follow it in an encoder."""
        return f"relu{self.name.removeprefix('conv')}"

    @property
    def is_tap(self) -> bool:
        """Whether an encoder returns the activations that follow it, as the first of a block."""
        return self.name.endswith("_1")


@dataclass(frozen=True)
class Spec:
    """An encoder up to relu{stage}_1 and the decoder that mirrors it (paper, section 3.1).

    Attributes:
        stage: 1 to 5; the encoder ends at relu{stage}_1.
        widths: channels of blocks 1 to `stage`.
        depths: convolutions per block of the full VGG; only the first `stage` matter.
        padding: `"reflect"` for style transfer; `"zero"` for the ImageNet networks as trained.

    Raises:
        ValueError: if the stage is not in 1..5, `widths` does not have one entry per block, or the
            padding is unknown.
    """

    stage: int
    widths: tuple[int, ...]
    depths: tuple[int, ...] = VGG19_DEPTHS
    padding: Padding = "reflect"

    def __post_init__(self) -> None:
        if not 1 <= self.stage <= 5:
            raise ValueError(f"stage must be 1 to 5, not {self.stage}")
        if len(self.widths) != self.stage:
            raise ValueError(f"stage {self.stage} needs {self.stage} widths, not {self.widths}")
        if self.padding not in ("reflect", "zero"):
            raise ValueError(f"padding must be 'reflect' or 'zero', not {self.padding!r}")

    @property
    def stride(self) -> int:
        """Image pixels per feature position, along each axis."""
        return 2 ** (self.stage - 1)

    @property
    def encoder(self) -> tuple[Conv, ...]:
        """The encoder's 3x3 convolutions in order; the colour convolution conv0 precedes them."""
        convs: list[Conv] = []
        previous = 3
        for block, width in enumerate(self.widths, 1):
            last_block = block == self.stage
            depth = 1 if last_block else self.depths[block - 1]
            for index in range(1, depth + 1):
                pooled = index == depth and not last_block
                convs.append(Conv(f"conv{block}_{index}", previous, width, block - 1, pooled))
                previous = width
        return tuple(convs)

    @property
    def decoder(self) -> tuple[Conv, ...]:
        """The decoder's 3x3 convolutions in order: the encoder's, reversed and mirrored."""
        return tuple(
            Conv(conv.name, conv.features_out, conv.features_in, conv.level, upsampled=conv.pooled)
            for conv in reversed(self.encoder)
        )

    @property
    def taps(self) -> tuple[tuple[str, int], ...]:
        """(name, channels) of every relu{j}_1 in the encoder, shallowest first."""
        return tuple((f"relu{j + 1}_1", width) for j, width in enumerate(self.widths))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names relu{b}_{i} of every layer of the encoder, taps included, shallowest first."""
        return tuple(conv.layer for conv in self.encoder)

    @property
    def halo(self) -> int:
        """Image pixels next to a cut within which features, and images decoded from them, differ.

        It is the reach of the encoder's receptive field beyond a position, and of the decoder's
        beyond a pixel, rounded up to a multiple of the stride. A convolution at a level adds one
        position of that level, 2**level pixels of the image.
        """
        reach = sum(2**conv.level for conv in self.encoder)
        return -(-reach // self.stride) * self.stride

    @property
    def parameter_count(self) -> int:
        """Weights and biases of the encoder, including conv0, and the decoder, not embeddings."""
        colour = 3 * 3 + 3
        return colour + sum(
            9 * c.features_in * c.features_out + c.features_out for c in self.encoder + self.decoder
        )

    @property
    def encoder_macs(self) -> float:
        """Multiply-accumulates per image pixel of the encoder's 3x3 convolutions.

        The decoder, which convolves upsampled features, costs the same.
        """
        return sum(9 * c.features_in * c.features_out / 4**c.level for c in self.encoder)


def teacher(stage: int, *, depths: tuple[int, ...] = VGG19_DEPTHS) -> Spec:
    """The spec of a full-width VGG, VGG-19 by default; arguments as for `Spec`."""
    return Spec(stage, TEACHER_WIDTHS[:stage], depths)


def student(stage: int, *, depths: tuple[int, ...] = VGG19_DEPTHS) -> Spec:
    """The spec of the paper's 16x smaller student: a quarter of the widths, 24 at stage 1."""
    widths = (24,) if stage == 1 else STUDENT_WIDTHS[:stage]
    return Spec(stage, widths, depths)


def check_strengths(strengths: Sequence[float]) -> None:
    """ValueError if a strength, a share of the transform, is not from 0 to 1."""
    if not all(0 <= strength <= 1 for strength in strengths):
        raise ValueError(f"strengths must be from 0 to 1, not {tuple(strengths)}")
