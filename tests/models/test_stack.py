"""Models side by side compute what each computes alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diet_ray.data.batch import Batch
from diet_ray.models import stack
from diet_ray.models.base import HeadOutput
from diet_ray.models.catalogue import ARCHITECTURES, build
from diet_ray.models.lr import LR
from diet_ray.models.stack import ModelStack, NotStackable
from diet_ray.training.loop import predict
from tests.models.rows import FEATURES, candidate, random_batch


def models(name: str, **settings: object) -> list:
    return [build(candidate(name, **settings), FEATURES, seed=s).double() for s in (1, 2, 3)]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_training_logits_are_those_of_each_model(name: str, dropout: float) -> None:
    own = [m.train() for m in models(name, dropout=dropout)]
    together, batch = ModelStack(own), random_batch(12)
    rows = together.table.rows(batch)
    for _ in range(2):  # masks go on where they stood
        masks = together.draw_masks(batch)
        logits = together.logits(together.dense, together.gather(rows), batch, masks)
        expected = torch.stack([m(batch) for m in own])
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_predictions_are_those_of_each_model_in_evaluation_mode(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "PREDICT_BYTES", 1)
    own, batch = models(name, dropout=0.4), random_batch(65)  # one row too many for one go
    expected = torch.stack([predict(m, batch) for m in own])
    found = ModelStack(own).predict(batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_stack_is_a_copy() -> None:
    own, batch = models("deepfm", dropout=0.4), random_batch(4)
    before = [predict(m, batch) for m in own]
    counts = [d.num_calls for d in own[0].modules() if hasattr(d, "num_calls")]
    copied = ModelStack(own)
    copied.dense_weight.zero_()
    copied.table_weight.zero_()
    copied.draw_masks(batch)
    assert not copied.predict(batch).any()
    assert [d.num_calls for d in own[0].modules() if hasattr(d, "num_calls")] == counts
    for model, logit in zip(own, before, strict=True):
        assert logit.any()
        assert torch.equal(predict(model, batch), logit)


def test_dense_parameters_are_views() -> None:
    together = ModelStack(models("dnn"))
    together.dense_weight.fill_(2.0)
    assert all(bool((weight == 2.0).all()) for weight in together.dense.values())
    assert sum(w[0].numel() for w in together.dense.values()) == together.dense_weight.shape[1]


@pytest.mark.parametrize("settings", [{"hidden_sizes": (6,)}, {"dropout": 0.5}])
def test_models_of_other_shapes_are_refused(settings: dict) -> None:
    other = build(candidate("dnn", **settings), FEATURES, seed=0).double()
    with pytest.raises(NotStackable, match="differ in their layers"):
        ModelStack([*models("dnn"), other])


class Counting(nn.Module):
    def get_extra_state(self) -> Tensor:
        return torch.zeros(())

    def set_extra_state(self, state: Tensor) -> None: ...


class Stateful(LR):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.counting = Counting()


class WithConstant(LR):
    """Its buffer differs from model to model."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.register_buffer("constant", torch.randn(()))

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        logit, hidden = super().head(gathered, batch)
        return HeadOutput(logit + self.constant, hidden)


def test_state_that_is_no_tensor_is_refused() -> None:
    own = [build(candidate(f"{__name__}:Stateful"), FEATURES, seed=s) for s in (0, 1)]
    with pytest.raises(NotStackable, match="`counting` keeps state"):
        ModelStack(own)


def test_each_model_has_its_own_buffers() -> None:
    own = [build(candidate(f"{__name__}:WithConstant"), FEATURES, seed=s) for s in (0, 1)]
    found = ModelStack(own).predict(random_batch(3))
    torch.testing.assert_close(found, torch.stack([predict(m, random_batch(3)) for m in own]))
    assert own[0].constant != own[1].constant
