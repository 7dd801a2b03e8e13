"""What runs on a CPU runs on a GPU, unchanged, to the same numbers. Skipped where there is none."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.testing import assert_close

from diet_ray.data.batch import Batch
from diet_ray.distillation.proxy import Proxies
from diet_ray.influence.direction import Direction
from diet_ray.influence.gradients import inner_products, row_gradients
from diet_ray.models.catalogue import ARCHITECTURES, Candidate, build
from diet_ray.models.stack import ModelStack
from diet_ray.scoring.config import Precision
from diet_ray.scoring.row_scores import RowScorer, ScoredModel
from diet_ray.training.config import OptimizerConfig
from diet_ray.training.drift import DriftMatch
from diet_ray.training.loop import fit, predict, train_step
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.stacked import StackedTraining
from tests.distillation.small_log import small_log
from tests.distillation.test_pipeline import make_config
from tests.distillation.test_pipeline import run as distil
from tests.influence.influence_model import FEATURES, random_batch
from tests.influence.per_row import network, random_weights, with_moderate_logits
from tests.scoring.test_row_scores import BOUNDS, SCORES, scored_model, scorer, single, whitening_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(scored: ScoredModel) -> ScoredModel:
    def moved(direction: Direction | None) -> Direction | None:
        return None if direction is None else {n: t.cuda() for n, t in direction.items()}

    return replace(
        scored,
        model=deepcopy(scored.model).cuda(),
        validation=moved(scored.validation),
        preconditioner=moved(scored.preconditioner),
    )


def gpu_scorer(scored: ScoredModel, block: Batch, precision: Precision = "float32") -> RowScorer:
    return RowScorer(
        [on_gpu(scored)],
        SCORES,
        num_features=16,
        seed=0,
        whitening=whitening_of(scored.model, block).cuda(),
        precision=precision,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_score_is_that_of_a_cpu(architecture: str) -> None:
    rows, block = random_batch(24, seed=1), random_batch(30, seed=2)
    scored = scored_model(network(architecture), block)
    expected = scorer([scored], block)(rows)
    found = gpu_scorer(scored, block)(rows.to("cuda"))
    for name, values in expected.items():
        atol = 1e-9 * float(values.abs().mean())
        assert found[name].is_cuda
        assert_close(found[name].cpu(), values, rtol=1e-8, atol=atol, msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", BOUNDS)
def test_lower_precision_keeps_order_and_size(architecture: str, precision: Precision) -> None:
    dtype, least = BOUNDS[precision]
    if architecture in ("masknet", "hstu"):
        # Products of products, more roundings in a row: measured 0.9958 with hstu in bfloat16.
        least = 1 - 5 * (1 - least)
    rows, block = single(random_batch(600, seed=1)), single(random_batch(100, seed=2))
    candidate = Candidate(
        name="c", architecture=architecture, embedding_size=8, hidden_sizes=(16, 8)
    )
    model = with_moderate_logits(random_weights(build(candidate, FEATURES, seed=3)), rows)
    scored = scored_model(model.float(), block)
    exact = scorer([scored], block)(rows)
    found = gpu_scorer(scored, block, precision)(rows.to("cuda"))
    for name in ("last_layer", "full", "self_influence", "adam_self_influence"):
        assert found[name].dtype == torch.float32
        error = (found[name].cpu() - exact[name]).abs() / exact[name]
        assert error.median() <= 4 * torch.finfo(dtype).eps, name
        assert spearmanr(found[name].cpu(), exact[name]).statistic >= least, name


@pytest.mark.parametrize("architecture", ["deepfm", "din", "autoint"])
def test_inner_products_are_those_of_a_cpu(architecture: str) -> None:
    model, rows = network(architecture).requires_grad_(False).eval(), random_batch(20, seed=1)
    own = row_gradients(model, rows, rows.label, "all")
    there = rows.to("cuda")
    other = row_gradients(deepcopy(model).cuda(), there, there.label, "all")
    expected = inner_products(own, own)
    assert_close(inner_products(other, other).cpu(), expected, rtol=1e-8, atol=1e-10)


def trained(architecture: str, device: str) -> tuple[dict[str, Tensor], Tensor]:
    candidate = Candidate(name="c", architecture=architecture, embedding_size=4, hidden_sizes=(6,))
    model = build(candidate, FEATURES, seed=1).double().to(device)
    optimizer = OptimizerConfig(learning_rate=0.01, weight_decay=0.1)
    rows = [random_batch(size, seed=size) for size in (50, 7, 43, 30)]
    fit(model, rows, optimizer, batch_size=16)
    return {n: w.cpu() for n, w in model.state_dict().items()}, predict(model, rows[0]).cpu()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_goes_where_a_cpu_takes_it(architecture: str) -> None:
    weights, logit = trained(architecture, "cuda")
    expected_weights, expected_logit = trained(architecture, "cpu")
    assert weights.keys() == expected_weights.keys()
    for name, weight in expected_weights.items():
        assert_close(weights[name], weight, rtol=1e-5, atol=1e-7, msg=name)
    assert_close(logit, expected_logit, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("architecture", ["deepfm", "din"])
def test_training_twice_gives_the_same_bits(architecture: str) -> None:
    first, second = trained(architecture, "cuda"), trained(architecture, "cuda")
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(first[0][n], second[0][n]) for n in first[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_side_by_side_learn_what_they_learn_alone(architecture: str) -> None:
    candidate = Candidate(name="c", architecture=architecture, embedding_size=4, hidden_sizes=(6,))
    optimizers = [OptimizerConfig(learning_rate=0.02), OptimizerConfig(learning_rate=0.01)]
    models = [build(candidate, FEATURES, seed=s).double().cuda().train() for s in (0, 1)]
    stack = ModelStack([deepcopy(m) for m in models])
    training = StackedTraining(stack, optimizers)
    together = [DriftMatch(0.02, 0.5, 1.0, bounded=True) for _ in optimizers]
    parts = [random_batch(size, seed=size).to("cuda") for size in (20, 20, 9)]
    for rows in parts:
        weight = torch.ones_like(rows.label)
        training.step(stack.table.rows(rows), rows, rows.label, weight, together)
    for i, model in enumerate(models):
        optimizer, drift = (
            ClickOptimizer(model, optimizers[i]),
            DriftMatch(0.02, 0.5, 1.0, bounded=True),
        )
        for rows in parts:
            train_step(model, optimizer, rows, rows.label, torch.ones_like(rows.label), drift)
        for name, weights in stack.dense.items():
            expected = model.get_parameter(name).detach()
            assert_close(weights[i], expected, rtol=1e-5, atol=1e-8, msg=name)


def test_proxies_predict_and_go_on_as_on_a_cpu() -> None:
    candidates = [
        Candidate(name=a, architecture=a, embedding_size=4, hidden_sizes=(8,), batch_size=16)
        for a in ("dnn", "fm")
    ]
    stages = [single(random_batch(100, seed=s)) for s in (1, 2)]
    held_out = torch.arange(100) % 10 == 0
    found = []
    for device in ("cpu", "cuda"):
        proxies = Proxies(candidates, FEATURES, 0, device)
        proxies.train_stage(lambda: [stages[0].to(device)], held_out)  # noqa: B023
        state = proxies.state()
        other = Proxies(candidates, FEATURES, 5, device)
        other.load_state(state)
        assert all(not t.is_cuda for t in state.values())
        logit, label = other.train_stage(lambda: [stages[1].to(device)], held_out)  # noqa: B023
        assert_close(label, stages[1].label[~held_out])
        found.append((logit, other.predict(stages[0])))
    for cpu, gpu in zip(*found, strict=True):
        assert_close(gpu, cpu, rtol=1e-3, atol=1e-4)


def test_slots_are_refined_beside_proxies_on_a_gpu(tmp_path: Path) -> None:
    _, state = distil(
        small_log(tmp_path / "log"), tmp_path / "memory", make_config(), device="cuda"
    )
    assert all(r.refinement_loss_after is not None for r in state.records)
