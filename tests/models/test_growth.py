"""Growing in one go, in steps, or building large are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diet_ray.data.batch import FeatureSpec
from diet_ray.errors import DataError
from diet_ray.models.catalogue import ARCHITECTURES, build
from diet_ray.models.growth import grow
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.loop import fit
from tests.models.rows import FEATURES, candidate, random_batch


def enlarged(user: int, item: int, tags: int) -> FeatureSpec:
    watched, own = FEATURES.sequence
    return replace(
        FEATURES,
        num_ids=(user, item),
        sequence=(replace(watched, num_ids=item), replace(own, num_ids=tags)),
    )


MIDDLE, LARGE = enlarged(8, 30, 6), enlarged(40, 33, 25)


def assert_same(a: torch.nn.Module, b: torch.nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_in_steps_at_once_and_built_large_are_one(name: str) -> None:
    small = build(candidate(name, dropout=0.1), FEATURES, seed=3)
    at_once = grow(small, LARGE, seed=3)
    assert_same(at_once, grow(grow(small, MIDDLE, seed=3), LARGE, seed=3))
    assert_same(at_once, build(candidate(name, dropout=0.1), LARGE, seed=3))
    assert at_once.features == at_once.table.features == LARGE
    batch = random_batch(9, LARGE)
    large = build(candidate(name, dropout=0.1), LARGE, seed=3)
    assert torch.equal(at_once.eval()(batch), large.eval()(batch))


def test_trained_weights_stay_and_the_old_model_is_left_alone() -> None:
    model = build(candidate("deepfm"), FEATURES, seed=0)
    fit(model, [random_batch(200)], OptimizerConfig(learning_rate=0.05), batch_size=20)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grown = grow(model, LARGE, seed=0)
    batch = random_batch(50, seed=1)
    torch.testing.assert_close(grown(batch), model(batch))
    assert torch.equal(grown.table.weight[:7], model.table.weight[:7])
    assert torch.equal(grown.table.weight[40:49], model.table.weight[7:16])
    assert torch.equal(grown.table.weight[73:79], model.table.weight[16:])
    with torch.no_grad():
        for parameter in grown.parameters():
            parameter.zero_()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_table_of_another_precision_stays_so() -> None:
    model = build(candidate("fm"), FEATURES, seed=0).double()
    assert grow(model, LARGE, seed=0).table.weight.dtype == torch.float64


def test_fewer_ids_are_refused_by_name() -> None:
    model = build(candidate("lr"), LARGE, seed=0)
    with pytest.raises(DataError, match="field tags: a model with 25 ids can't shrink to 6"):
        grow(model, enlarged(40, 33, 6), seed=0)


def test_other_fields_are_refused() -> None:
    model = build(candidate("lr"), FEATURES, seed=0)
    for other in (
        replace(FEATURES, categorical=("member", "item")),
        replace(FEATURES, numeric=("age",)),
        replace(FEATURES, sequence=FEATURES.sequence[:1]),
        replace(FEATURES, sequence=(replace(FEATURES.sequence[0], max_length=5),)),
    ):
        with pytest.raises(DataError, match="can't grow to fields"):
            grow(model, other, seed=0)
