"""How many numbers each architecture has beside its table, counted by hand."""

from __future__ import annotations

from dataclasses import dataclass

ACTIVATION_SIZE = 32
"""Of DIN."""
NUM_FEATURE_MAPS = 16
"""Of xDeepFM."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    num_fields: int
    """F"""
    num_numeric: int
    """N, of the F"""
    embedding_size: int
    """d"""
    hidden: tuple[int, ...]
    num_layers: int
    """K"""
    num_heads: int
    """H"""
    history_lengths: tuple[int, ...]
    """`max_length` of each sequence that has a target."""


def dense(width: int, outs: tuple[int, ...]) -> int:
    """Weights and biases of layers of `outs` units over `width` inputs."""
    total = 0
    for out in outs:
        total += width * out + out
        width = out
    return total


def transformer(width: int, num_heads: int) -> int:
    """Q, K, V and what brings heads together; two norms; two layers as wide as the outside."""
    return 4 * num_heads * width**2 + 2 * 2 * width + dense(width, (width, width))


def dense_counts(s: Sizes) -> dict[str, int]:
    f, n, d, k, h = s.num_fields, s.num_numeric, s.embedding_size, s.num_layers, s.num_heads
    width, last, num_pairs = f * d, s.hidden[-1], f * (f - 1) // 2
    num_histories = len(s.history_lengths)
    vectors = n * d
    deep = dense(width, s.hidden)
    linear = n + 1
    """Last layer over numeric fields."""

    def attention(per_layer: int) -> int:
        """`per_layer` matrices of H heads; behind the first layer, fields are H times as wide."""
        return per_layer * h * d * (d + (k - 1) * h * d)

    def after(num_vectors: int) -> int:
        """A perceptron over `num_vectors` vectors, and its last layer."""
        return dense(num_vectors * d, s.hidden) + last + 1

    factorized = 0
    """FINAL: a perceptron over fields and gated fields, another over fields."""
    for begin in (2 * width, width):
        factorized += dense(begin, s.hidden)
    mask = 0
    """MaskNet: per block a mask of two layers, a matrix, a norm."""
    given = width
    for out in s.hidden:
        mask += dense(width, (given, given)) + given * out + 2 * out
        given = out
    half = (width + 1) // 2
    masked_cross = width * half + 2 * half + width
    cin = NUM_FEATURE_MAPS * f * (f + (k - 1) * NUM_FEATURE_MAPS)
    reduced = max(1, f // 3)
    deep_output = last + 1
    din = (4 * d * ACTIVATION_SIZE + ACTIVATION_SIZE) + (ACTIVATION_SIZE + 1)
    unit = dense(d, (3 * d,)) + 3 * d * d
    """A gated recurrent unit."""
    transduction = 4 * h * d * d + dense(h * d, (d,))
    actions = k * transformer(2 * d, h) + dense(2 * d, (2 * d,))
    joined = width + 3 * num_histories * d
    """TransAct: four vectors for each history."""
    part = [len(range(i, last, h)) for i in range(h)]
    """FinalMLP's heads; sizes differ by one at most."""
    return {
        "lr": linear,
        "fm": vectors + linear,
        "dnn": vectors + deep + deep_output,
        "wide_deep": vectors + deep + deep_output + n,
        "deepfm": vectors + deep + deep_output + n,
        "nfm": vectors + dense(d, s.hidden) + deep_output + n,
        "dcn": vectors + k * 2 * width + deep + deep_output + width,
        "dcnv2": vectors + k * dense(width, (width,)) + deep + deep_output + width,
        "pnn": vectors + dense(width + num_pairs, s.hidden) + deep_output,
        "autoint": vectors + attention(4) + f * h * d + 1,
        "finalmlp": vectors + 2 * (width + deep) + sum(p * p for p in part) + 2 * last + 1,
        "din": vectors + num_histories * din + deep + deep_output,
        "xdeepfm": vectors + cin + deep + deep_output + k * NUM_FEATURE_MAPS + n,
        "fibinet": vectors
        + 2 * f * reduced
        + 2 * num_pairs * d * d
        + dense(2 * num_pairs * d, s.hidden)
        + deep_output
        + n,
        "masknet": vectors + 2 * d + mask + deep_output,
        "final": vectors + f * f + f + factorized + 2 * last + 1,
        "dcnv3": vectors + 2 * k * masked_cross + 2 * width + 1,
        "fwfm": vectors + width + num_pairs + 1,
        "fmfm": vectors + num_pairs * d * d + linear,
        "afm": vectors + (d * d + d) + d + d + linear,
        "edcn": vectors + k * (2 * f + 2 * width + dense(width, (width,))) + 3 * width + 1,
        "gdcn": vectors + k * (2 * width**2 + width) + deep + deep_output + width,
        "destine": vectors + attention(4) + h * (d + (k - 1) * h * d) + f * h * d + 1,
        "autoint_plus": vectors + attention(4) + f * h * d + deep + deep_output,
        "dien": vectors + num_histories * (2 * unit + d * d) + after(f),
        "sim": vectors + num_histories * 2 * (1 + h) * d * d + after(f + h * num_histories),
        "bst": vectors
        + sum((length + 1) * d + k * transformer(2 * d, h) for length in s.history_lengths)
        + after(f + num_histories),
        "hstu": vectors
        + sum(k * (transduction + length + 1) for length in s.history_lengths)
        + after(f),
        "transact": vectors
        + num_histories * actions
        + k * dense(joined, (joined,))
        + dense(joined, s.hidden)
        + deep_output
        + joined,
    }
