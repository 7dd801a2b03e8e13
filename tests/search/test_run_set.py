"""Candidates with all their seeds, whatever becomes of one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.models.base import HeadOutput
from diet_ray.models.catalogue import Candidate
from diet_ray.models.lr import LR
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.run_set import DistilledRows, RunSet
from diet_ray.search.runs import RunResult, distilled_run
from diet_ray.search.stacks import StackedRun
from diet_ray.training.recipe import Recipe
from tests.search.candidates import BROKEN, CANDIDATES
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
ROWS = DistilledRows(
    train=hard(random_rows(LOG, 200, seed=1)),
    features=FEATURES,
    recipe=Recipe(batch_share=1 / 8, steps_per_step=4.0),
    evaluation=evaluation_rows(LOG, 400),
)


class Choosy(LR):
    """Looks at values, so that it can't be recorded; wants no user 5 when it has seen many rows."""

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        if bool((batch.label > 2).any()):
            raise AssertionError
        return super().head(gathered, batch)


def alone(candidate: Candidate, seed: int, rows: DistilledRows = ROWS) -> RunResult:
    return distilled_run(candidate, rows.train, FEATURES, rows.recipe, rows.evaluation, seed)


def trained(candidates: list[Candidate], rows: DistilledRows = ROWS) -> RunSet:
    runs = RunSet(candidates, (3, 4), rows)
    for share in (0.3, 0.7, 1.0):
        runs.advance(share)
    return runs


def test_candidates_of_one_shape_go_side_by_side() -> None:
    candidates = [CANDIDATES[0], CANDIDATES[4]]
    runs = trained(candidates)
    assert [type(r) for r in runs._runs] == [StackedRun]
    for candidate, found in zip(candidates, runs.results(), strict=True):
        assert not isinstance(found, str)
        for run, seed in zip(found, (3, 4), strict=True):
            expected = alone(candidate, seed)
            assert (run.name, run.seed, run.num_steps) == (candidate.name, seed, expected.num_steps)
            assert run.evaluation.auc == pytest.approx(expected.evaluation.auc, abs=2e-4)


def test_what_can_not_be_recorded_runs_alone() -> None:
    candidate = Candidate(name="choosy", architecture=f"{__name__}:Choosy", batch_size=128)
    (found,) = trained([candidate]).results()
    assert not isinstance(found, str)
    assert [r.evaluation for r in found] == [alone(candidate, s).evaluation for s in (3, 4)]


def test_shuffled_rows_run_alone() -> None:
    rows = replace(ROWS, recipe=Recipe(batch_share=1 / 8, order="shuffle"))
    (found,) = trained([CANDIDATES[0]], rows).results()
    assert not isinstance(found, str)
    assert [r.evaluation for r in found] == [
        alone(CANDIDATES[0], s, rows).evaluation for s in (3, 4)
    ]


def test_an_error_is_told_against_its_candidate() -> None:
    assert trained([BROKEN]).results() == ["RuntimeError: no such luck"]


def test_a_diverged_candidate_spares_its_neighbour() -> None:
    wild = replace(CANDIDATES[2], name="wild", learning_rate=1e30)
    sound, diverged = trained([CANDIDATES[2], wild]).results()
    assert not isinstance(sound, str)
    assert isinstance(diverged, str)
    assert "not finite" in diverged


@pytest.mark.parametrize("order", ["time", "shuffle"])
@pytest.mark.parametrize("seeds", [(3, 4), (3,)])
def test_runs_go_on_from_a_state(order: str, seeds: tuple[int, ...], tmp_path: Path) -> None:
    """With dropout, drift and a loss curve, side by side or alone."""
    recipe = Recipe(batch_share=1 / 8, order=order, dense_drift=0.5, bounded_table=True, epochs=7)
    rows = replace(ROWS, recipe=recipe)
    candidate = replace(CANDIDATES[2], dropout=0.3)
    begun = RunSet([candidate], seeds, rows)
    begun.advance(0.8)
    torch.save(begun.state(), tmp_path / "state")
    begun.advance(1.0)
    (expected,) = begun.results()

    resumed = RunSet([candidate], seeds, rows)
    resumed.load_state(torch.load(tmp_path / "state", weights_only=True))
    resumed.advance(1.0)
    (found,) = resumed.results()
    assert not isinstance(expected, str)
    assert not isinstance(found, str)
    for a, b in zip(expected, found, strict=True):
        assert (a.evaluation, a.curve, a.num_steps, a.row_visits) == (
            b.evaluation,
            b.curve,
            b.num_steps,
            b.row_visits,
        )
        assert len(a.curve) == 2


class ChoosyLater(LR):
    """Looks at values once it is judged, so that it trains side by side and is judged alone."""

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        if not self.training and bool((gathered > 99).any()):
            raise AssertionError
        return super().head(gathered, batch)


def test_what_can_not_be_judged_side_by_side_is_judged_alone() -> None:
    candidate = Candidate(name="later", architecture=f"{__name__}:ChoosyLater", batch_size=128)
    runs = RunSet([candidate], (3, 4), ROWS)
    runs.advance(1.0)
    assert [type(r) for r in runs._runs] == [StackedRun]
    (found,) = runs.results()
    assert not isinstance(found, str)
    assert [r.evaluation for r in found] == [alone(candidate, s).evaluation for s in (3, 4)]
