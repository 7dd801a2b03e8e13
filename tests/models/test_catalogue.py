"""Candidates: building, seeds, identities, and errors that name the candidate."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.errors import ConfigError
from diet_ray.models.base import HeadOutput, Recommender
from diet_ray.models.catalogue import (
    ARCHITECTURES,
    Candidate,
    build,
    core_candidates,
    default_candidates,
    num_parameters,
)
from diet_ray.models.layers import Output, pool
from diet_ray.training.config import OptimizerConfig
from tests.models.rows import FEATURES, candidate, candidates, random_batch


class OwnModel(Recommender):
    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__(features, embedding_size)
        self.output = Output(embedding_size)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        hidden = pool(gathered, batch).sum(dim=1)
        return HeadOutput(self.output(hidden), hidden)


class GreedyModel(OwnModel):
    def __init__(self, features: FeatureSpec, embedding_size: int, colour: str) -> None:
        super().__init__(features, embedding_size)


def test_the_catalogue() -> None:
    first = "lr fm dnn wide_deep deepfm nfm dcn dcnv2 pnn autoint finalmlp din"
    then = (
        "xdeepfm fibinet masknet final dcnv3 fwfm fmfm afm edcn gdcn destine autoint_plus "
        "dien sim bst hstu transact"
    )
    assert " ".join(ARCHITECTURES) == f"{first} {then}"
    assert [c.name for c in core_candidates()] == first.split()
    assert default_candidates()[: len(core_candidates())] == core_candidates()
    assert [c.name for c in default_candidates()] == list(ARCHITECTURES)
    assert [c.architecture for c in default_candidates()] == list(ARCHITECTURES)


def test_the_documentation_lists_the_catalogue() -> None:
    path = Path(__file__).parents[2] / "docs" / "algorithm.md"
    rows = re.findall(r"^\| `(\w+)` \|", path.read_text(), flags=re.MULTILINE)
    assert [name for name in rows if name in ARCHITECTURES] == list(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_first_weights_follow_the_seed_alone(name: str) -> None:
    chosen, batch = candidate(name, dropout=0.2), random_batch(32)
    torch.manual_seed(5)
    first = build(chosen, FEATURES, seed=7)
    torch.manual_seed(6)
    again, other = build(chosen, FEATURES, seed=7), build(chosen, FEATURES, seed=8)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    # Dropout masks, too.
    assert torch.equal(first(batch), again(batch))
    assert not torch.equal(first.eval()(batch), other.eval()(batch)) or name == "lr"


def test_the_random_state_is_left_alone_even_by_failures() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    candidates()
    with pytest.raises(ConfigError):
        candidate(f"{__name__}:GreedyModel")
    assert torch.equal(torch.get_rng_state(), before)


def test_identity_forgets_what_the_architecture_does_not_take() -> None:
    def same(a: Candidate, **changes: object) -> bool:
        return a.identity == replace(a, **changes).identity  # type: ignore[arg-type]

    lr, dnn, autoint = candidate("lr"), candidate("dnn"), candidate("autoint")
    assert same(lr, name="x", hidden_sizes=(9,), embedding_size=7, dropout=0.3, num_heads=3)
    assert not same(lr, learning_rate=0.5)
    assert not same(lr, weight_decay=0.5)
    assert not same(lr, batch_size=5)
    assert not same(dnn, hidden_sizes=(9,))
    assert same(dnn, num_cross_layers=5)
    assert not same(autoint, num_cross_layers=5)
    assert len({c.identity for c in candidates()}) == len(ARCHITECTURES)


def test_candidates_of_one_identity_are_one_model() -> None:
    a = candidate("lr")
    b = replace(a, name="b", embedding_size=9)
    models = [build(c, FEATURES, seed=0) for c in (a, b)]
    assert num_parameters(models[0]) == num_parameters(models[1]) == 25


def test_the_optimiser_is_the_candidates() -> None:
    chosen = candidate("lr", learning_rate=0.3, weight_decay=0.2)
    assert chosen.optimizer == OptimizerConfig(learning_rate=0.3, weight_decay=0.2)
    adam = {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-4}
    assert replace(chosen, **adam).optimizer == replace(chosen.optimizer, **adam)
    for name, value in adam.items():
        assert replace(chosen, **{name: value}).identity == chosen.identity.replace(
            ")", f", {name}={value})"
        )


def test_a_class_of_ones_own() -> None:
    chosen = candidate(f"{__name__}:OwnModel")
    model = build(chosen, FEATURES, seed=0)
    assert isinstance(model, OwnModel)
    assert model(random_batch(3)).shape == (3,)


def test_candidates_travel() -> None:
    chosen = candidate("din")
    assert pickle.loads(pickle.dumps(chosen)) == chosen


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("deepfn", "unknown architecture `deepfn`; did you mean `deepfm`?"),
        ("DCNV2", "did you mean `dcnv2`?"),
        ("qqqq", "known: lr, fm, dnn,"),
        ("no.such.module:Model", "can't import architecture `no.such.module:Model`"),
        (f"{__name__}:NoSuch", "can't import architecture"),
        (f"{__name__}:candidate", "is no subclass of torch.nn.Module"),
        (f"{__name__}:GreedyModel", "takes `colour`, which no candidate has"),
    ],
)
def test_wrong_architectures(architecture: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Candidate(name="mine", architecture=architecture)
    assert str(error.value).startswith("candidate `mine`: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_size": 0}, "must be at least 1"),
        ({"hidden_sizes": ()}, "must be at least 1"),
        ({"hidden_sizes": (4, 0)}, "must be at least 1"),
        ({"num_cross_layers": 0}, "must be at least 1"),
        ({"num_heads": 0}, "must be at least 1"),
        ({"batch_size": 0}, "must be at least 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"epsilon": 0.0}, "epsilon"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        candidate("dnn", **settings)


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("masknet", {"embedding_size": 1}),
        ("masknet", {"hidden_sizes": (8, 1)}),
        ("hstu", {"embedding_size": 1}),
    ],
)
def test_a_size_that_would_leave_nothing_to_learn_is_refused(
    architecture: str, sizes: dict[str, Any]
) -> None:
    with pytest.raises((ConfigError, ValueError), match="at least 2"):
        Candidate(name="c", architecture=architecture, **sizes)
