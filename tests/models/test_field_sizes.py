"""Fields whose embeddings are smaller than the others': padded, and never moved where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.distillation.unroll import TABLE, CompactModel, inner_step
from diet_ray.errors import ConfigError
from diet_ray.influence.gradients import row_gradients, squared_norm
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build, num_parameters
from diet_ray.models.growth import grow
from diet_ray.models.stack import ModelStack
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import DriftMatch
from diet_ray.training.loop import train_step
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.stacked import StackedTraining
from tests.influence.per_row import flat, random_weights, reference
from tests.models.rows import FEATURES, candidate, random_batch
from tests.models.test_growth import LARGE

SIZES = {"item": 1, "tags": 2}
NAMES = [name for name in ARCHITECTURES if name != "lr"]
CONFIG = OptimizerConfig(learning_rate=0.02, weight_decay=0.1)


def narrow(name: str, sizes: dict[str, int] = SIZES, **settings: object) -> Candidate:
    return candidate(name, embedding_size=3, field_embedding_sizes=sizes, **settings)


def padding(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The columns that `SIZES` leave of items (rows 7–15) and tags (16–21) at a width of 3."""
    return weight[7:16, 1:3], weight[16:22, 2:3]


def steps() -> list[tuple[Batch, Tensor, Tensor]]:
    found = []
    for seed, size in enumerate((10, 10, 7)):
        g = torch.Generator().manual_seed(seed)
        target, weight = torch.rand(size, generator=g), torch.rand(size, generator=g) + 0.1
        found.append((random_batch(size, seed=seed), target.double(), weight.double()))
    return found


def zero(model: Recommender) -> None:
    with torch.no_grad():
        for columns in padding(model.table.weight):
            columns.zero_()


@pytest.mark.parametrize("name", NAMES)
def test_training_is_that_of_a_whole_table_zeroed_by_hand_after_every_step(name: str) -> None:
    settings = {"dropout": 0.3, "embedding_size": 3}
    by_hand = build(candidate(name, **settings), FEATURES, seed=0).double().train()
    zero(by_hand)
    model = build(narrow(name, dropout=0.3), FEATURES, seed=0).double().train()
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict())
    optimizers = [ClickOptimizer(m, CONFIG) for m in (model, by_hand)]
    for batch in (random_batch(12, seed=s) for s in range(4)):
        logits = [train_step(o.model, o, batch) for o in optimizers]
        zero(by_hand)
        torch.testing.assert_close(*logits)
        assert all((columns == 0).all() for columns in padding(model.table.weight))
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict())
    # What isn't padding has moved.
    first = build(narrow(name), FEATURES, seed=0).double()
    moved = (model.table.weight - first.table.weight).abs().sum(0)[:3]
    assert (moved > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_side_by_side_each_has_its_own_sizes(name: str) -> None:
    sizes: list[dict[str, int]] = [SIZES, {}, {"user": 2}]

    def drifts() -> list[DriftMatch]:
        return [DriftMatch(0.02, 0.5, 1.0, bounded=True) for _ in sizes]

    models = [
        build(narrow(name, own, dropout=0.3), FEATURES, seed=s).double().train()
        for s, own in enumerate(sizes)
    ]
    stack = ModelStack(models)
    training, together = StackedTraining(stack, [CONFIG] * 3), drifts()
    for batch, target, weight in steps():
        training.step(stack.table.rows(batch), batch, target, weight, together)
    tables = stack.table_weight.unflatten(1, (3, -1))
    assert all((columns == 0).all() for columns in padding(tables[:, 0]))
    assert (tables[:7, 2, 2] == 0).all()
    for i, (model, match) in enumerate(zip(models, drifts(), strict=True)):
        optimizer = ClickOptimizer(model, CONFIG)
        for batch, target, weight in steps():
            train_step(model, optimizer, batch, target, weight, match)
        expected = model.table.weight.detach()
        torch.testing.assert_close(tables[:, i], expected, rtol=1e-6, atol=1e-9)
        for weight_name, weights in stack.dense.items():
            expected = model.get_parameter(weight_name).detach()
            torch.testing.assert_close(weights[i], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["fm", "deepfm", "din"])
def test_influence_leaves_out_padding(name: str) -> None:
    model = random_weights(build(narrow(name), FEATURES, seed=0))
    zero(model)
    batch, target = random_batch(6), torch.rand(6, dtype=torch.float64)
    expected = reference(model, batch, target)
    for gradient in expected["table.weight"]:
        for columns in padding(gradient):
            columns.zero_()
    found = row_gradients(model, batch, target, "all")
    torch.testing.assert_close(squared_norm(found), flat(expected).square().sum(1))


def test_inner_training_leaves_padding_alone() -> None:
    model = build(narrow("fm"), FEATURES, seed=0).double()
    batch = random_batch(20)
    compact = CompactModel(model, [batch])
    state, positions = compact.initial(), compact.compact(batch)
    target, weight = torch.rand(20).double(), torch.ones(20).double()
    for _ in range(2):
        state = inner_step(
            compact, state, positions, batch, target, weight, CONFIG, differentiable=True
        )
    table = model.table.weight.detach().clone()
    before = table.clone()
    table[compact.rows] = state.parameters[TABLE].detach()
    assert not torch.equal(table, before)
    assert all((columns == 0).all() for columns in padding(table))


def test_grown_tables_keep_their_sizes() -> None:
    grown = grow(build(narrow("deepfm"), FEATURES, seed=3), LARGE, seed=3)
    large = build(narrow("deepfm"), LARGE, seed=3)
    torch.testing.assert_close(grown.state_dict(), large.state_dict())
    assert grown.table.narrow_sizes == SIZES
    assert torch.equal(grown.table.column_mask, large.table.column_mask)
    assert (grown.table.weight[40:73, 1:3] == 0).all()


def test_checkpoints_keep_their_sizes(tmp_path: Path) -> None:
    model = build(narrow("deepfm"), FEATURES, seed=0)
    saved = Checkpoint(
        name="c", candidate=narrow("deepfm"), features=FEATURES, weights=model.state_dict()
    )
    saved.save(tmp_path / "c.safetensors")
    loaded = Checkpoint.load(tmp_path / "c.safetensors", FEATURES)
    assert loaded.candidate == narrow("deepfm")
    assert loaded.model(FEATURES).table.narrow_sizes == SIZES

    whole = build(candidate("deepfm"), FEATURES, seed=0).state_dict()
    with pytest.raises(ConfigError, match="larger than field_embedding_sizes"):
        replace(saved, weights=whole).model(FEATURES)


def test_counts_leave_out_padding() -> None:
    # 9 items lack two columns each, 6 tags one.
    by_name = [(name, 9 * 2 + 6 * 1) for name in NAMES] + [("lr", 0)]
    for name, num_padding in by_name:
        whole = build(candidate(name, embedding_size=3), FEATURES, seed=0)
        model = build(narrow(name), FEATURES, seed=0)
        assert num_parameters(whole) - num_parameters(model) == num_padding


def test_identity_knows_sizes_that_change_the_model() -> None:
    assert narrow("fm").identity != candidate("fm").identity
    assert narrow("fm", {"tags": 2, "item": 1}).identity == narrow("fm").identity
    assert narrow("fm", {"item": 3}).identity == candidate("fm").identity
    assert narrow("lr").identity == candidate("lr").identity
    assert len({narrow("fm"), candidate("fm")}) == 2


def test_a_sequence_without_its_field_has_the_common_size() -> None:
    model = build(narrow("din", without_fields=("item",)), FEATURES, seed=0)
    assert model.table.narrow_sizes == {"tags": 2}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"itm": 1}, "no field `itm`; did you mean `item`?"),
        ({"zzzz": 1}, "no field `zzzz`; fields with ids: user, item, tags"),
        ({"price": 1}, "`price` is numeric: its size is embedding_size"),
        ({"watched": 1}, "`watched` shares the ids of `item`: give that one a size"),
        ({"item": 4}, "item: must lie from 1 to embedding_size, 3, found 4"),
        ({"item": 0}, "item: must lie from 1"),
    ],
)
def test_wrong_sizes_are_named(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^candidate `fm`: field_embedding_sizes: ") as error:
        build(narrow("fm", sizes), FEATURES, seed=0)
    assert message in str(error.value)
