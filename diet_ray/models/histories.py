"""Parts that read behaviour histories: sequences that share the ids of a categorical field.

Names as in `layers`. A *reader* makes m vectors of one history: a module that takes items
(B, L, d), the target's embedding (B, d) and which items are present (B, L), bool, and gives
(B, m·d). Items are oldest first, padding is at the end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diet_ray.data.batch import PADDING_ID, Batch, FeatureSpec, SequenceSpec
from diet_ray.models.base import EMBEDDING_SD
from diet_ray.models.layers import Output, mean_pool, mlp, split_positions


class Interests(nn.ModuleList):
    """`pool`, but with a reader of its own for each sequence that has a target.

    gathered (B, P, d) to (B, C + S + (m − 1) × number of readers, d).
    """

    def __init__(
        self, features: FeatureSpec, make_reader: Callable[[SequenceSpec], nn.Module]
    ) -> None:
        super().__init__(make_reader(s) for s in features.sequence if s.target is not None)
        self.targets = [
            None if s.target is None else features.categorical.index(s.target)
            for s in features.sequence
        ]

    def forward(self, gathered: Tensor, batch: Batch) -> Tensor:
        categorical, items = split_positions(gathered, batch)
        present = batch.sequence != PADDING_ID
        readers = iter(self)
        vectors = [categorical]
        for s, target in enumerate(self.targets):
            if target is None:
                vectors.append(mean_pool(items[:, s : s + 1], present[:, s : s + 1]))
            else:
                interest = next(readers)(items[:, s], categorical[:, target], present[:, s])
                vectors.append(interest.unflatten(1, (-1, gathered.shape[2])))
        return torch.cat(vectors, dim=1)


def ages(present: Tensor) -> Tensor:
    """1 for the latest of a row's items, 2 for the one before, …; 0 at padding: (B, L), int64."""
    return present.flip(1).cumsum(1).flip(1) * present


def with_target(items: Tensor, target: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The target as a last item: items (B, L + 1, d), their ages, its own being 0, and presence."""
    return (
        torch.cat([items, target.unsqueeze(1)], dim=1),
        nn.functional.pad(ages(present), (0, 1)),
        nn.functional.pad(present, (0, 1), value=True),
    )


class Positions(nn.Module):
    """A learned vector for each position: positions (B, n), int64, to (B, n, width)."""

    def __init__(self, num_positions: int, width: int) -> None:
        super().__init__()
        weight = torch.empty(num_positions, width)
        self.weight = nn.Parameter(nn.init.normal_(weight, std=EMBEDDING_SD))

    def forward(self, positions: Tensor) -> Tensor:
        return nn.functional.embedding(positions, self.weight)


class GatedRecurrentUnit(nn.Module):
    """States h_1, …, h_L (B, L, d) over inputs x (B, L, d), from h_0 = 0.

        u, r = σ(W x + b + U h)   (a part each)
        n = tanh(W_n x + b_n + r ∘ U_n h)
        h ← h + a u ∘ (n − h)

    with a step's weight a, such as its attention; at 0 the state stays as it was.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.input = nn.Linear(size, 3 * size)
        self.recurrent = nn.Linear(size, 3 * size, bias=False)

    def forward(self, x: Tensor, step_weight: Tensor) -> Tensor:
        """step_weight: (B, L)."""
        given = self.input(x)
        h = torch.zeros_like(x[:, 0])
        states = []
        for step in range(x.shape[1]):
            update, reset, new = given[:, step].chunk(3, dim=1)
            from_update, from_reset, from_new = self.recurrent(h).chunk(3, dim=1)
            n = torch.tanh(new + torch.sigmoid(reset + from_reset) * from_new)
            u = torch.sigmoid(update + from_update) * step_weight[:, step : step + 1]
            h = h + u * (n - h)
            states.append(h)
        return torch.stack(states, dim=1)


class TargetAttention(nn.Module):
    """Sum (B, d) of a sequence's items (B, L, d), weighted by an MLP of [h_l, h_l − t, h_l ∘ t, t].

    t: the target's embedding (B, d). Weights aren't normalised; padding has none.
    """

    def __init__(self, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*mlp(4 * embedding_size, (hidden_size,), 0.0), Output(hidden_size))

    def forward(self, items: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """present: (B, L), bool."""
        t = target.unsqueeze(1).expand_as(items)
        pairs = torch.cat([items, items - t, items * t, t], dim=2)
        weight = self.mlp(pairs.flatten(0, 1)).view(present.shape).masked_fill(~present, 0.0)
        return (items * weight.unsqueeze(2)).sum(dim=1)
