"""A stage's aggregate gradient in a size that depends on neither its rows nor its vocabularies.

The last layer's part is kept whole. The embedding part, a gradient for every id, is kept as a count
sketch (Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002) of one
hash row: a vocabulary's id adds sign(id) times its gradient to bucket(id). A vocabulary of no more
ids than buckets is kept exactly, id by id. The sketch is linear, so shards add up, and an inner
product with a row's own gradient, read back with the same buckets and signs, is unbiased over the
choice of the hash.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.influence.gradients import RowGradients, is_padding, row_gradients
from diet_ray.influence.hashing import mix, stream_key
from diet_ray.models.base import EmbeddingTable, Recommender

_SKETCH_SEED = 0
_BATCH_SIZE = 16_384


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Sums, over `num_rows` rows, of their gradients of the loss."""

    num_rows: int
    last_layer: Tensor
    """(H + 1,): weights, then bias."""
    embedding: Tensor
    """(buckets of all vocabularies in the order of `block_sizes`, width); no rows if left out."""
    sketch_buckets: int
    """Most buckets of a vocabulary."""

    def __add__(self, other: Aggregate) -> Aggregate:
        return Aggregate(
            num_rows=self.num_rows + other.num_rows,
            last_layer=self.last_layer + other.last_layer,
            embedding=self.embedding + other.embedding,
            sketch_buckets=self.sketch_buckets,
        )

    def double(self) -> Aggregate:
        """In float64, so that adding up many shards loses nothing."""
        return Aggregate(
            num_rows=self.num_rows,
            last_layer=self.last_layer.double(),
            embedding=self.embedding.double(),
            sketch_buckets=self.sketch_buckets,
        )


def aggregate(table: EmbeddingTable, gradients: RowGradients, sketch_buckets: int) -> Aggregate:
    """Sums of the rows' gradients, on the CPU. `sketch_buckets` 0 leaves embeddings out."""
    width = table.weight.shape[1]
    num_buckets = sum(min(size, sketch_buckets) for size in table.block_sizes)
    sketch = gradients.residual.new_zeros(num_buckets, width)
    if sketch_buckets:
        assert gradients.embedding is not None
        bucket, sign = sketch_position(table, gradients.rows, sketch_buckets)
        scaled = (gradients.residual[:, None] * sign)[:, :, None] * gradients.embedding
        # Unlike index_add_, this adds in a fixed order on every device.
        sketch.index_put_((bucket.flatten(),), scaled.flatten(0, 1), accumulate=True)
    return Aggregate(
        num_rows=len(gradients.residual),
        last_layer=gradients.last_layer.sum(0).cpu(),
        embedding=sketch.cpu(),
        sketch_buckets=sketch_buckets,
    )


def similarity(model: Recommender, batch: Batch, target: Tensor, aggregate: Aggregate) -> Tensor:
    """(M,) on the CPU: ⟨ḡ, g_m⟩ of M slots' gradients with the mean gradient of a stage.

    The slots' loss is softplus(z) − target·z; target (M,) may lie outside [0, 1].
    """
    parts = [
        _similarity(model, batch[i : i + _BATCH_SIZE], target[i : i + _BATCH_SIZE], aggregate)
        for i in range(0, len(batch), _BATCH_SIZE)
    ]
    return torch.cat(parts) if parts else torch.zeros(0)


def _similarity(model: Recommender, batch: Batch, target: Tensor, aggregate: Aggregate) -> Tensor:
    device = model.table.weight.device
    buckets = aggregate.sketch_buckets
    gradients = row_gradients(
        model, batch.to(device), target.to(device), "embedding" if buckets else "last_layer"
    )
    dtype = gradients.residual.dtype
    mean = (aggregate.last_layer / aggregate.num_rows).to(device, dtype)
    product = gradients.hidden @ mean[:-1] + mean[-1]
    if buckets:
        assert gradients.embedding is not None
        sketch = (aggregate.embedding / aggregate.num_rows).to(device, dtype)
        bucket, sign = sketch_position(model.table, gradients.rows, buckets)
        product = product + ((sketch[bucket] * gradients.embedding).sum(2) * sign).sum(1)
    return (gradients.residual * product).cpu()


def sketch_position(
    table: EmbeddingTable, rows: Tensor, sketch_buckets: int
) -> tuple[Tensor, Tensor]:
    """Where table rows (B, P) lie in the sketch: bucket int64 and sign ±1 (0 at padding), (B, P).

    The sign has the table's dtype. They depend on the vocabulary's place and the id alone.
    """
    block_of = {start: i for i, start in enumerate(table.block_starts)}
    block = torch.tensor([block_of[o] for o in table.offsets.tolist()], dtype=torch.int64)
    num_ids = torch.tensor(table.block_sizes)
    num_buckets = num_ids.clamp_max(sketch_buckets)
    start = (num_buckets.cumsum(0) - num_buckets)[block].to(rows.device)
    exact = (num_ids <= sketch_buckets)[block].to(rows.device)

    ids = rows - table.offsets
    bits = mix(mix(ids) ^ (stream_key(_SKETCH_SEED, 0) + block.to(rows.device)))
    hashed = ((bits >> 1) & (1 << 62) - 1) % sketch_buckets
    sign = torch.where(exact, 1, 1 - 2 * (bits & 1)).to(table.weight.dtype)
    sign = sign.masked_fill(is_padding(table, rows), 0)
    return start + torch.where(exact, ids, hashed), sign
