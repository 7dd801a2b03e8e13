"""Population-based training: who learns from whom, and that what comes of it is one run."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import ray.tune
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.errors import ConfigError
from diet_ray.models.base import HeadOutput
from diet_ray.models.catalogue import Candidate
from diet_ray.models.layers import Dropout
from diet_ray.models.lr import LR
from diet_ray.search.group_trial import _cpus_by_turns
from diet_ray.search.populations import populations
from diet_ray.search.proposals import Proposals
from diet_ray.search.records import TrialResult
from diet_ray.search.run_set import RunSet
from diet_ray.search.trials import SearchConfig, search, write_ranking
from diet_ray.search.workers import WorkersConfig
from tests.search.test_proposals import SPACE
from tests.search.test_trials import ROWS

PBT = SearchConfig(seeds=(3, 4), scheduler="pbt", num_reports=4)
DNN = Candidate(name="dnn", architecture="dnn", hidden_sizes=(8,), batch_size=128)
FM = Candidate(name="fm", architecture="fm", batch_size=128)


def with_rates(candidate: Candidate, *rates: float) -> list[Candidate]:
    return [
        replace(candidate, name=f"{candidate.name}-{r:g}", learning_rate=r, weight_decay=0.01)
        for r in rates
    ]


class Fragile(LR):
    """Kills its process at its first step where its share of dropout is large, gives no number
    where it is middling."""

    def __init__(self, features: FeatureSpec, dropout: float) -> None:
        super().__init__(features)
        self.dropout = Dropout(dropout)

    def head(self, gathered: Tensor, batch: Batch) -> HeadOutput:
        begins = self.training and self.dropout.num_calls == 0
        if begins and self.dropout.share > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        found = super().head(self.dropout(gathered), batch)
        if begins and self.dropout.share > 0.3:
            return HeadOutput(found.logit * float("nan"), found.hidden)
        return found


def test_a_population_differs_in_rates_alone() -> None:
    same = [*with_rates(DNN, 0.1, 0.2), replace(DNN, weight_decay=0.5)]
    other = [
        replace(DNN, dropout=0.1),
        replace(DNN, architecture="deepfm"),
        replace(DNN, embedding_size=8),
        replace(DNN, field_embedding_sizes={"user": 2}),
        replace(DNN, without_fields=("age",)),
        replace(DNN, beta1=0.8),
        replace(DNN, batch_size=64),
    ]
    assert populations([*same, *other, replace(DNN, dropout=0.2)]) == [0] * 3 + [*range(1, 8), 1]


def test_the_weak_go_on_from_the_strong_and_what_they_end_with_is_one_run(
    ray_cluster: None, tmp_path: Path
) -> None:
    candidates = [
        *with_rates(DNN, 0.01, 1e-6, 0.03, 2e-6),
        *with_rates(FM, 0.01, 1e-6, 0.02),
        replace(DNN, name="alone", hidden_sizes=(4,)),
    ]
    found = search(candidates, ROWS, PBT, WorkersConfig(num_workers=2), tmp_path)
    assert [t.candidate for t in found.trials] == candidates
    changed = [t for t in found.trials if t.schedule]
    assert {t.candidate.architecture for t in changed} == {"dnn", "fm"}
    assert "alone" not in {t.candidate.name for t in changed}
    for trial in found.trials:
        assert trial.error is None
        assert trial.num_reports == 4
        assert [r.seed for r in trial.runs] == [3, 4]
        (again,) = _trained(trial.trained)
        assert not isinstance(again, str)
        for run, expected in zip(trial.runs, again, strict=True):
            assert run.name == trial.candidate.name
            assert run.num_steps == expected.num_steps
            assert run.evaluation.logloss == pytest.approx(expected.evaluation.logloss, rel=1e-5)
        assert all(rates.begin in (0.0, 0.25, 0.5, 0.75) for rates in trial.schedule)
    by_name = {t.candidate.name: t for t in found.trials}
    # At a rate as small nothing is learned: whoever has it goes on as another does.
    learned = [t for t in changed if t.candidate.learning_rate < 1e-5]
    assert learned
    for trial in learned:
        (unlearned,) = _trained(trial.candidate)
        assert trial.runs[0].evaluation.logloss < unlearned[0].evaluation.logloss

    lines = [json.loads(x) for x in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert {x["candidate"]["name"] for x in lines} == {c.name for c in candidates}
    for line in lines:
        begins = [r["begin"] for r in line["schedule"]]
        assert begins == [r.begin for r in by_name[line["candidate"]["name"]].schedule]
    assert search(candidates, ROWS, PBT, out=tmp_path).trials == found.trials
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == len(lines)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]
    write_ranking(found, tmp_path)
    first = json.loads((tmp_path / "ranking.json").read_text())["ranking"][0]
    assert len(first["candidate"]["schedule"]) == len(found.ranking[0].schedule)


def _trained(candidate: Candidate) -> list:
    runs = RunSet([candidate], PBT.seeds, ROWS)
    runs.advance(1.0)
    return runs.results()


def test_members_that_end_early_hold_no_one_up(ray_cluster: None) -> None:
    fragile = Candidate(
        name="a", architecture=f"{__name__}:Fragile", dropout=0.1, learning_rate=0.1, batch_size=128
    )
    candidates = [
        fragile,
        replace(fragile, name="b", learning_rate=0.01),
        replace(fragile, name="wild", dropout=0.4),
        replace(fragile, name="deadly", dropout=0.8),
    ]
    config = replace(PBT, seeds=(0,), num_reports=3)
    found = search(candidates, ROWS, config, WorkersConfig(num_workers=1))
    errors = {t.candidate.name: t.error for t in found.trials}
    assert errors["a"] is errors["b"] is None
    assert "not finite" in (errors["wild"] or "")
    assert errors["deadly"]
    assert {t.num_reports for t in found.ranking} == {3}


@pytest.mark.parametrize(
    ("cpus", "num_workers", "asked"), [([16], 1, 9), ([2], 2, 1), ([4], 3, 1), ([8, 8], 3, 5)]
)
def test_no_more_trials_at_once_than_workers(
    cpus: list[int], num_workers: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": float(n)}} for n in cpus]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert _cpus_by_turns(WorkersConfig(num_workers=num_workers, cpus_per_worker=1)) == asked


def test_a_search_goes_on_where_it_stood(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where people say `runs/clicks`.
    monkeypatch.chdir(tmp_path.parent)
    out = Path(tmp_path.name)

    class Killed(Exception):
        pass

    def stop(trial: TrialResult) -> None:
        raise Killed

    config, workers = replace(PBT, seeds=(0,), num_reports=2), WorkersConfig(num_workers=1)
    candidates = [replace(FM, name="alone"), *with_rates(DNN, 0.01, 0.02)]
    with pytest.raises(ray.tune.TuneError, match="Killed"):
        search(candidates, ROWS, config, workers, out, on_trial=stop)
    (kept,) = (tmp_path / "trials.jsonl").read_text().splitlines()
    (tmp_path / "diet-search-left").mkdir()
    found = search(candidates, ROWS, config, workers, out)
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert lines[0] == kept
    names = [json.loads(x)["candidate"]["name"] for x in lines]
    assert sorted(names) == sorted(c.name for c in candidates)
    assert all(t.num_reports == 2 for t in found.trials)
    assert [p.name for p in tmp_path.iterdir()] == ["trials.jsonl"]


def test_what_can_not_be_tuned_on_the_way_is_refused(ray_cluster: None) -> None:
    scheduled = replace(DNN, schedule=(replace(DNN.first_rates, begin=0.5),))
    with pytest.raises(ConfigError, match="candidate `dnn`: schedule: `pbt` is to find it"):
        search([scheduled], ROWS, PBT)
    with pytest.raises(ConfigError, match="candidates: optuna: proposes"):
        search(Proposals.of(SPACE, "here"), ROWS, PBT)
