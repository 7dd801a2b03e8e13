"""The benchmark times what it says, on the same rows, and its plain loop does what ours does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.training.deepctr_leg import TensorLoader
from benchmarks.training.fuxictr_leg import MODELS
from benchmarks.training.legs import Ours, Plain
from benchmarks.training.logs import ADVERTISING_IDS, Rows, advertising
from benchmarks.training.parity import MATCHED, THEIRS, Matched, compared
from benchmarks.training.speed import OURS, Turns, by_turns, over_fastest
from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.catalogue import ARCHITECTURES, Candidate
from diet_ray.training.loop import click_loss

CANDIDATE = Candidate(name="x", architecture="deepfm", embedding_size=4, hidden_sizes=(8,))


def turns(*rates: float, auc: tuple[float, ...] = (0.5,)) -> Turns:
    speed = np.array(rates)
    return Turns(cpu_rows_per_s=speed, wall_rows_per_s=speed, auc=np.array(auc))


def tiny_rows() -> Rows:
    """Every id in every mini-batch of 16, so that rows are never untouched."""
    ids = torch.arange(2, 6, dtype=torch.int32).repeat(16)
    categorical = torch.stack([ids, ids.flip(0)], dim=1)
    label = (torch.arange(64) % 3 == 0).float()
    batch = Batch(categorical, torch.empty(64, 0), torch.empty(64, 0, 0, dtype=torch.int32), label)
    features = FeatureSpec(categorical=("a", "b"), num_ids=(6, 6), numeric=(), sequence=())
    return Rows(features=features, train=batch[:48], test=batch[48:])


def test_a_ratio_is_the_median_of_the_turns_against_the_faster_of_a_librarys_legs() -> None:
    found = {
        OURS: turns(6.0, 8.0, 9.0),
        "library": turns(2.0, 4.0, 9.0),
        "library_own_loader": turns(1.0, 1.0, 1.0),
        "other": turns(100.0, 100.0, 100.0),
    }
    assert over_fastest(found, "library") == 2.0
    assert over_fastest(found, "other") == 0.08


def test_every_leg_has_the_same_rows_and_each_goes_first_in_turn() -> None:
    rows, seen = tiny_rows(), []

    class Leg(Ours):
        def fit(self) -> None:
            seen.append((self.name, self.rows, self.batch_size, self.candidate))

        name = "a"

    class Other(Leg):
        name = "b"

    found = by_turns({"a": Leg, "b": Other}, CANDIDATE, rows, 16, [0, 1])
    assert [name for name, *_ in seen] == ["a", "b", "b", "a"]
    assert all(r is rows and b == 16 and c is CANDIDATE for _, r, b, c in seen)
    assert found["a"].auc.tolist() == found["b"].auc.tolist()
    assert (found["a"].cpu_rows_per_s > 0).all()


@pytest.mark.parametrize("architecture", ["deepfm", "autoint"])
def test_the_plain_loop_and_ours_learn_alike(architecture: str) -> None:
    rows = tiny_rows()
    candidate = Candidate(
        name="x",
        architecture=architecture,
        embedding_size=4,
        hidden_sizes=(8,),
        learning_rate=0.05,
    )
    losses = []
    for leg in (Ours, Plain):
        training = leg(candidate, rows, 16, 0)
        before = click_loss(torch.from_numpy(training.scores()), rows.test.label)
        training.fit()
        after = click_loss(torch.from_numpy(training.scores()), rows.test.label)
        assert after < before
        losses.append(after)
    # The plain loop's table has momentum.
    torch.testing.assert_close(losses[0], losses[1], rtol=0.03, atol=0.0)


def test_the_generated_log_is_reproducible_and_its_ids_are_in_range() -> None:
    rows, again = (advertising(300, 100, seed=1) for _ in range(2))
    assert (len(rows.train), len(rows.test)) == (300, 100)
    torch.testing.assert_close(rows.train.categorical, again.train.categorical)
    torch.testing.assert_close(rows.test.label, again.test.label)
    assert (rows.train.categorical < torch.tensor(ADVERTISING_IDS)).all()
    assert rows.train.categorical.min() >= 2
    assert 0.1 < rows.train.label.mean() < 0.5
    assert len(rows.last(10).train) == len(rows.first(10).train) == 10


def test_the_tensor_loader_cuts_rows_in_order() -> None:
    dataset = torch.utils.data.TensorDataset(torch.arange(5), torch.arange(5) * 2)
    batches = [x.tolist() for x, _ in TensorLoader(dataset, shuffle=False, batch_size=2)]
    assert batches == [[0, 1], [2, 3], [4]]
    with pytest.raises(ValueError, match="order of time"):
        TensorLoader(dataset, shuffle=True, batch_size=2)


def test_parity_is_within_two_pooled_seed_sds() -> None:
    found = compared(
        {
            OURS: turns(1.0, auc=(0.71, 0.73)),
            MATCHED: turns(1.0, auc=(0.74, 0.76)),
            THEIRS: turns(1.0, auc=(0.73, 0.75)),
        }
    )
    assert found["ours"] == 0.72
    assert found["seed_sd"] == pytest.approx(0.02 / 2**0.5, abs=1e-5)
    assert found["within"]
    assert found["matched_within"]
    assert not compared(
        {name: turns(1.0, auc=(a, a)) for name, a in ((OURS, 0.7), (MATCHED, 0.7), (THEIRS, 0.71))}
    )["within"]


def test_matched_first_weights_are_theirs_and_every_counterpart_is_a_model_of_ours() -> None:
    assert set(MODELS) <= set(ARCHITECTURES)
    rows = advertising(10, 10)
    small = Matched(Candidate(name="x", architecture="deepfm"), rows, 8, 0).model
    assert 0.8e-4 < float(small.table.weight.detach().std()) < 1.1e-4
    weight = dict(small.named_parameters())["mlp.0.weight"]
    expected = (2.0 / sum(weight.shape)) ** 0.5
    assert float(weight.detach().std()) == pytest.approx(expected, rel=0.05)
