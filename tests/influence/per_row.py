"""Per-row gradients by plain autograd, to judge closed forms by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build
from tests.influence.influence_model import FEATURES, random_batch

MAX_LOGIT = 12.0
"""A residual σ(z) − y of a far larger logit is rounding, in which no two ways of it agree."""


def network(architecture: str) -> Recommender:
    """A small model in float64 with `random_weights`, whose logits stay moderate."""
    candidate = Candidate(
        name="c", architecture=architecture, embedding_size=4, hidden_sizes=(6, 3), dropout=0.5
    )
    model = random_weights(build(candidate, FEATURES, seed=3))
    return with_moderate_logits(model, random_batch(64, seed=1))


def random_weights(model: Recommender) -> Recommender:
    """Far from the first values, so that no part vanishes in a sum."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.5)
        model.table.weight[list(model.table.block_starts)] = 0.0
    return model.double()


def with_moderate_logits(model: Recommender, batch: Batch) -> Recommender:
    """Scales the last layer so that no logit of `batch` is far above `MAX_LOGIT`."""
    training = model.training
    with torch.no_grad():
        largest = float(model.eval()(batch).abs().max())
        if largest > MAX_LOGIT:
            for parameter in model.output.parameters():
                parameter.mul_(MAX_LOGIT / largest)
    return model.train(training)


def reference(model: Recommender, batch: Batch, target: Tensor) -> dict[str, Tensor]:
    """Per-row gradients of the loss by plain autograd, (B, *shape) by parameter name."""
    training = model.training
    model.eval()
    parameters = dict(model.named_parameters())
    rows: list[dict[str, Tensor]] = []
    for i in range(len(batch)):
        logit = model(batch[i : i + 1])[0]
        loss = nn.functional.softplus(logit) - target[i] * logit
        found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        rows.append(dict(zip(parameters, found, strict=True)))
        rows[-1]["table.weight"][list(model.table.block_starts)] = 0.0
    model.train(training)
    return {name: torch.stack([row[name] for row in rows]) for name in parameters}


def flat(gradients: dict[str, Tensor]) -> Tensor:
    """(B, all parameters)"""
    return torch.cat([g.flatten(1) for g in gradients.values()], dim=1)
