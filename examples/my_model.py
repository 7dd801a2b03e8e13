"""An architecture of your own: any module that takes the encoded rows and gives logits.

diet search RUN --candidates my_candidates.yaml     # in this folder
"""

import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch, FeatureSpec


class Tower(nn.Module):
    """Embeddings of all categorical fields, concatenated with the numeric ones, into an MLP."""

    def __init__(
        self, features: FeatureSpec, embedding_size: int, hidden_sizes: tuple[int, ...]
    ) -> None:
        """Takes the features and those keys of a candidate that it names."""
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n, embedding_size) for n in features.num_ids)
        width = len(features.num_ids) * embedding_size + len(features.numeric)
        layers: list[nn.Module] = []
        for size in hidden_sizes:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B,). `batch.categorical` (B, fields) holds ids, `batch.numeric` (B, fields)
        standardised numbers, `batch.sequence` (B, fields, length) ids of earlier items, 0 none."""
        ids = batch.categorical.long()
        found = [embed(ids[:, i]) for i, embed in enumerate(self.embeddings)]
        return self.mlp(torch.cat([*found, batch.numeric], dim=1)).squeeze(1)
