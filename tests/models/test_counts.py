"""Sizes of models by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diet_ray.data.batch import FeatureSpec
from diet_ray.models.catalogue import ARCHITECTURES, build, num_parameters
from tests.models.counts import Sizes, dense_counts
from tests.models.rows import FEATURES, WATCHED, candidate

NUM_ROWS = 7 + 9 + 6
"""Of the table: users, items (watched ones are among them), tags."""
LINEAR = ("lr", "fm", "wide_deep", "deepfm", "nfm", "xdeepfm", "fibinet", "fmfm", "afm")
"""Architectures with a weight for each id."""
TWO_HISTORIES = replace(
    FEATURES, sequence=(*FEATURES.sequence, replace(WATCHED, name="liked", max_length=3))
)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("spec", "lengths"),
    [
        (FEATURES, (4,)),
        (TWO_HISTORIES, (4, 3)),
        (replace(FEATURES, numeric=("age",), sequence=()), ()),
    ],
    ids=["one-history", "two-histories", "no-history"],
)
def test_parameters_are_as_many_as_by_hand(
    name: str, spec: FeatureSpec, lengths: tuple[int, ...]
) -> None:
    sizes = Sizes(
        num_fields=spec.num_fields,
        num_numeric=len(spec.numeric),
        embedding_size=5,
        hidden=(8, 7),
        num_layers=3,
        num_heads=2,
        history_lengths=lengths,
    )
    chosen = candidate(name, embedding_size=5, hidden_sizes=(8, 7), num_cross_layers=3, num_heads=2)
    model = build(chosen, spec, seed=0)
    width = (0 if name == "lr" else 5) + (name in LINEAR)
    num_rows = NUM_ROWS if spec.sequence else 7 + 9
    assert model.table.weight.shape == (num_rows, width)
    assert num_parameters(model) - num_rows * width == dense_counts(sizes)[name]


def test_the_counts_cover_the_catalogue() -> None:
    sizes = Sizes(
        num_fields=2,
        num_numeric=0,
        embedding_size=1,
        hidden=(1,),
        num_layers=1,
        num_heads=1,
        history_lengths=(),
    )
    assert list(dense_counts(sizes)) == list(ARCHITECTURES)
