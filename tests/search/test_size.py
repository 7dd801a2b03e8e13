"""Counts without the table against counts with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diet_ray.data.batch import FeatureSpec, SequenceSpec
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build, num_parameters
from diet_ray.search.size import model_size
from diet_ray.search.stacks import MAX_STACK, stack_size
from diet_ray.training.recipe import Recipe
from tests.models.test_wrapped import Plain

FEATURES = FeatureSpec(
    categorical=("user", "item"),
    num_ids=(50, 70),
    numeric=("age",),
    sequence=(
        SequenceSpec(name="watched", max_length=4, target="item", num_ids=70),
        SequenceSpec(name="tags", max_length=3, target=None, num_ids=9),
    ),
)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_sizes_are_those_of_the_built_model(architecture: str) -> None:
    candidate = Candidate(name="c", architecture=architecture, embedding_size=8)
    size, model = model_size(candidate, FEATURES), build(candidate, FEATURES, seed=0)
    assert size.table == size.table_cells == model.table.weight.numel()
    assert size.dense + size.table == num_parameters(model)


def test_smaller_fields_count_what_they_have_and_take_what_they_pad() -> None:
    sizes = {"item": 3, "tags": 2}
    for architecture, linear in (("deepfm", 1), ("dnn", 0)):
        candidate = Candidate(
            name="c", architecture=architecture, embedding_size=8, field_embedding_sizes=sizes
        )
        size, model = model_size(candidate, FEATURES), build(candidate, FEATURES, seed=0)
        assert size.table == 50 * (8 + linear) + 70 * (3 + linear) + 9 * (2 + linear)
        assert size.table_cells == model.table.weight.numel() == 129 * (8 + linear)
        assert size.dense + size.table == num_parameters(model)
        blind = replace(candidate, without_fields=("item",))
        # What was watched has ids of its own then.
        assert model_size(blind, FEATURES).table == (50 + 70) * (8 + linear) + 9 * (2 + linear)


def test_a_module_s_own_embeddings_count_and_take_their_room() -> None:
    own = Candidate(name="c", architecture=f"{Plain.__module__}:Plain", embedding_size=4)
    size = model_size(own, FEATURES)
    # And the bias that every module is given.
    assert size.dense == (50 + 70) * 4 + 4 + 1 + 1
    assert stack_size(own, FEATURES, Recipe()) == MAX_STACK
    huge = replace(FEATURES, num_ids=(4_000_000, 70), sequence=())
    assert model_size(own, huge).dense == (4_000_000 + 70) * 4 + 6
    # A quarter of a GiB for each of them, beside a table of next to nothing.
    assert stack_size(own, huge, Recipe()) in (3, 4)
