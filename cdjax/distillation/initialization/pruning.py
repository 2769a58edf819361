"""L1 filter pruning, from which the published 16x models were trained.

Each layer keeps its filters of largest L1 norm, and the next layer the corresponding inputs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cdjax.model import Params
from cdjax.networks.spec import Spec


def largest_filters(kernel: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Outputs of a kernel (3, 3, I, O) of the largest L1 norm, the largest last: (count,).

    The norm includes inputs that are pruned themselves. This and the order follow the published
    initialisations.
    """
    norms = np.abs(np.asarray(kernel, np.float64)).sum((0, 1, 2))
    return np.argsort(norms, kind="stable")[len(norms) - count :]


def _pruned(params: Params, inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> Params:
    return {
        "kernel": jnp.asarray(params["kernel"])[:, :, inputs][..., outputs],
        "bias": jnp.asarray(params["bias"])[outputs],
    }


def prune_encoder(student: Spec, params: Params) -> Params:
    """The teacher's encoder, of the student's depths, cut to the student's widths."""
    pruned = {"conv0": jax.tree.map(jnp.asarray, params["conv0"])}
    kept = np.arange(3)
    for conv in student.encoder:
        chosen = largest_filters(params[conv.name]["kernel"], conv.features_out)
        pruned[conv.name] = _pruned(params[conv.name], kept, chosen)
        kept = chosen
    return pruned


def prune_decoder(student: Spec, params: Params) -> Params:
    """The teacher's decoder, of the student's depths, cut to the student's widths.

    As in the published initialisations, its first layer keeps the inputs of largest weight, not
    those that a pruned encoder has kept: the encoder is trained before the decoder.
    """
    convs = student.decoder
    first = np.asarray(params[convs[0].name]["kernel"])
    kept = largest_filters(first.swapaxes(2, 3), convs[0].features_in)
    pruned = {}
    for conv in convs:
        # All channels of the image are kept, in their order.
        image = conv == convs[-1]
        kernel = params[conv.name]["kernel"]
        chosen = np.arange(3) if image else largest_filters(kernel, conv.features_out)
        pruned[conv.name] = _pruned(params[conv.name], kept, chosen)
        kept = chosen
    return pruned
