"""Combines stages of several models into one."""

from collections.abc import Sequence

from cdjax.errors import CheckpointError
from cdjax.model import Model, ModelConfig


def combine_models(models: Sequence[Model]) -> Model:
    """One model of the stages of several; stages of later models replace those of earlier ones.

    Each stage encodes, transforms and decodes by itself, so that stages may come from different
    teachers; the new configuration says which.

    Args:
        models: of one method.

    Returns:
        The combined model; its parameters are shared with `models`.

    Raises:
        CheckpointError: if there are no models, or their methods differ.
    """
    methods = {model.config.method for model in models}
    if len(methods) != 1:
        found = ", ".join(sorted(methods)) or "none"
        raise CheckpointError(f"only models of one method can be combined; these are of {found}")
    origins = {spec.stage: (spec, model) for model in models for spec in model.config.specs}
    stages = sorted(origins, reverse=True)
    teachers = {stage: origins[stage][1].config.teacher_of(stage) for stage in stages}
    names = dict.fromkeys(teachers.values())
    used = [model for model in models if any(model is origin for _, origin in origins.values())]
    sources = tuple(dict.fromkeys(source for model in used for source in model.config.sources))
    differing = tuple(teachers.items()) if len(names) > 1 else ()
    specs = tuple(origins[stage][0] for stage in stages)
    params = {f"stage{k}": origins[k][1].params[f"stage{k}"] for k in stages}
    shares = {k: origins[k][1].config.strength_of(k) for k in stages}
    strengths = tuple((k, share) for k, share in shares.items() if share != 1)
    method = models[0].config.method
    moves = {k: origins[k][1].config.transform_of(k) for k in stages}
    transforms = tuple((k, name) for k, name in moves.items() if name != method)
    config = ModelConfig(method, specs, ", ".join(names), sources, differing, strengths, transforms)
    return Model(params, config)
