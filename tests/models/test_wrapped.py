"""Any module that takes the encoded rows is a candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diet_ray.config import load_yaml
from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate, build
from diet_ray.models.growth import grow
from diet_ray.models.stack import ModelStack
from diet_ray.search.space import candidates_from
from diet_ray.training.loop import fit, predict
from tests.distillation.test_pipeline import make_config
from tests.models.rows import FEATURES, random_batch

EXAMPLES = Path(__file__).parents[2] / "examples"


class Plain(nn.Module):
    """One embedding a field, and a linear layer."""

    def __init__(self, features: FeatureSpec, embedding_size: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n, embedding_size) for n in features.num_ids)
        self.linear = nn.Linear(embedding_size, 1)

    def forward(self, batch: Batch) -> Tensor:
        parts = [e(batch.categorical[:, i]) for i, e in enumerate(self.embeddings)]
        return self.linear(torch.stack(parts).sum(dim=0))


class Wrong(nn.Module):
    def __init__(self, features: FeatureSpec) -> None:
        super().__init__()

    def forward(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch), 2)


def candidate(name: str) -> Candidate:
    return Candidate(name="mine", architecture=f"{__name__}:{name}", embedding_size=4)


def test_the_example_is_found_by_its_file_and_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    path = EXAMPLES / "my_candidates.yaml"
    found = candidates_from(load_yaml(path)["candidates"], str(path))
    own = [c for c in found if ":" in c.architecture]
    assert len(own) == 2
    for mine in own:
        model, batch = build(mine, FEATURES, seed=1), random_batch(50)
        before = predict(model, batch)
        fit(model, [batch], mine.optimizer, 10)
        assert not torch.equal(predict(model, batch), before)


def test_a_module_trains_as_a_candidate() -> None:
    model = build(candidate("Plain"), FEATURES, seed=1)
    alone = Plain(FEATURES, embedding_size=4)
    alone.load_state_dict(
        {k.removeprefix("module."): v for k, v in model.state_dict().items() if "module." in k}
    )
    batch = random_batch(50)
    with torch.no_grad():
        torch.testing.assert_close(predict(model, batch), alone(batch).squeeze(1))
    before = model.get_parameter("module.embeddings.0.weight").clone()
    result = fit(model, [batch] * 20, candidate("Plain").optimizer, batch_size=25)
    assert result.loss_curve[-1][1] < 0.75
    assert not torch.equal(model.get_parameter("module.embeddings.0.weight"), before)


def test_modules_go_side_by_side() -> None:
    models = [build(candidate("Plain"), FEATURES, seed=s) for s in (1, 2)]
    batch = random_batch(9)
    expected = torch.stack([predict(m, batch) for m in models])
    torch.testing.assert_close(ModelStack(models).predict(batch), expected)


def test_first_values_follow_from_the_seed() -> None:
    models = [build(candidate("Plain"), FEATURES, seed=s) for s in (1, 1, 2)]
    weights = [m.get_parameter("module.linear.weight") for m in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_logits_of_another_shape_are_named() -> None:
    with pytest.raises(ValueError, match=r"Wrong gave \(5, 2\) for 5 rows"):
        build(candidate("Wrong"), FEATURES, seed=0)(random_batch(5))


def test_a_class_that_is_no_module_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no subclass of torch\.nn\.Module"):
        Candidate(name="mine", architecture="builtins:int")


class TwoTowers(nn.Module):
    """Counts on fields that a log has, here the first two."""

    def __init__(self, features: FeatureSpec) -> None:
        super().__init__()
        self.user = nn.Embedding(features.num_ids[0], 4)
        self.item = nn.Embedding(features.num_ids[1], 4)

    def forward(self, batch: Batch) -> Tensor:
        user, item = self.user(batch.categorical[:, 0]), self.item(batch.categorical[:, 1])
        return (user * item).sum(dim=1)


def test_a_module_may_count_on_fields_of_its_log() -> None:
    mine = candidate("TwoTowers")
    assert predict(build(mine, FEATURES, seed=0), random_batch(5)).shape == (5,)


def test_embeddings_of_its_own_can_not_grow() -> None:
    model = build(candidate("Plain"), FEATURES, seed=0)
    assert grow(model, FEATURES, seed=0).features == FEATURES
    more = replace(FEATURES, num_ids=(FEATURES.num_ids[0] + 1, *FEATURES.num_ids[1:]))
    with pytest.raises(ConfigError, match="Plain: has embeddings of its own"):
        grow(model, more, seed=0)
    with pytest.raises(ValueError, match="proxies: `Plain` has embeddings of its own"):
        make_config(proxies=(replace(candidate("Plain"), name="Plain"),))
