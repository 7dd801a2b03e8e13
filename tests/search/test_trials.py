"""Distilled search on Ray Tune: results, records, failures, early stopping."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import ray.tune

from diet_ray.errors import ClusterError, OutputError
from diet_ray.search import results
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.groups import groups
from diet_ray.search.records import TrialResult
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import distilled_run
from diet_ray.search.trials import SearchConfig, SearchResult, search
from diet_ray.search.workers import WorkersConfig
from diet_ray.training.recipe import Recipe
from tests.search.candidates import BROKEN, CANDIDATES, DEADLY
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
ROWS = DistilledRows(
    train=hard(random_rows(LOG, 200, seed=1)),
    features=FEATURES,
    recipe=Recipe(batch_share=1 / 8, steps_per_step=4.0),
    evaluation=evaluation_rows(LOG, 400),
)


def test_a_search_gives_every_candidate_its_runs_and_reports_failures(
    ray_cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    candidates = (CANDIDATES[0], BROKEN, CANDIDATES[2], DEADLY, CANDIDATES[4])
    found = search(
        candidates,
        ROWS,
        SearchConfig(seeds=(3, 4)),
        out=tmp_path,
        on_trial=lambda trial: seen.append(trial.candidate.name),
    )
    assert [t.candidate for t in found.trials] == list(candidates)
    for trial in (found.trials[0], found.trials[2], found.trials[4]):
        assert trial.error is None
        assert [r.seed for r in trial.runs] == [3, 4]
        for run in trial.runs:
            alone = distilled_run(
                trial.candidate, ROWS.train, FEATURES, ROWS.recipe, ROWS.evaluation, run.seed
            )
            assert run.evaluation.auc == pytest.approx(alone.evaluation.auc, abs=2e-4)
            assert run.evaluation.logloss == pytest.approx(alone.evaluation.logloss, rel=1e-5)
    assert found.trials[1].error == "RuntimeError: no such luck"
    assert found.trials[3].error is not None
    assert "\n" not in found.trials[3].error
    assert found.trials[1].runs == found.trials[3].runs == ()
    assert {t.candidate.name for t in found.ranking} == {"lr", "dnn", "lr-slow"}
    means = [t.mean_auc for t in found.ranking]
    assert means == sorted(means, reverse=True)
    assert sorted(seen) == sorted(c.name for c in candidates)
    busy_s = sum(r.seconds for t in found.trials for r in t.runs) / found.num_workers
    assert found.search_overhead_s == pytest.approx(found.wall_seconds - busy_s)

    lines = [json.loads(x) for x in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert {x["candidate"]["name"] for x in lines} == {c.name for c in candidates}
    by_name = {x["candidate"]["name"]: x for x in lines}
    assert results.from_json(by_name["dnn"]["runs"][1]) == found.trials[2].runs[1]
    assert by_name["broken"]["error"] == "RuntimeError: no such luck"
    output = capfd.readouterr()
    assert "Trial" not in output.out + output.err


def test_a_search_goes_on_where_it_stood(ray_cluster: None, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(trial: TrialResult) -> None:
        raise Killed

    config, workers = SearchConfig(seeds=(3, 4)), WorkersConfig(num_workers=1)
    with pytest.raises(ray.tune.TuneError, match="Killed"):
        search(CANDIDATES[:4], ROWS, config, workers, tmp_path, on_trial=stop)
    file = tmp_path / "trials.jsonl"
    (kept,) = file.read_text().splitlines()
    seen: list[str] = []
    found = search(
        CANDIDATES[:4], ROWS, config, workers, tmp_path, lambda t: seen.append(t.candidate.name)
    )
    lines = file.read_text().splitlines()
    assert lines[0] == kept
    names = [json.loads(x)["candidate"]["name"] for x in lines]
    assert sorted(names) == sorted(c.name for c in CANDIDATES[:4])
    assert sorted(seen) == sorted(names)
    assert seen[0] == names[0]
    assert found.wall_seconds > json.loads(kept)["search_seconds"] > 0

    again = search(CANDIDATES[:4], ROWS, config, workers, tmp_path)
    assert again.trials == found.trials
    assert file.read_text().splitlines() == lines
    # Work that is read back costs what it cost.
    assert again.wall_seconds > json.loads(lines[-1])["search_seconds"]


def test_candidates_share_trials(ray_cluster: None, tmp_path: Path) -> None:
    candidates = [
        replace(CANDIDATES[i % 3], name=f"{i}", batch_size=100 + i) for i in range(2 * 3 + 4)
    ]
    found = search(candidates, ROWS, SearchConfig(seeds=(0,)), WorkersConfig(num_workers=1))
    assert all(t.error is None for t in found.trials)
    assert len({t.runs[0].evaluation for t in found.trials}) == len(candidates)


def test_who_shared_a_trial_with_a_deadly_candidate_is_trained_all_the_same(
    ray_cluster: None,
) -> None:
    others = [replace(CANDIDATES[i % 3], name=f"{i}", batch_size=100 + i) for i in range(7)]
    # It takes longest, so that its neighbours come after it.
    candidates = [*others, replace(DEADLY, batch_size=90)]
    together = groups(candidates, ROWS, num_seeds=1, num_workers=1)
    (shared,) = [g for g in together if (7,) in g]
    assert shared[0] == (7,)
    assert len(shared) > 1
    found = search(candidates, ROWS, SearchConfig(seeds=(0,)), WorkersConfig(num_workers=1))
    assert [t.candidate.name for t in found.trials if t.error is not None] == ["deadly"]
    assert all(len(t.runs) == 1 for t in found.trials[:7])


def test_asha_stops_the_weaker_and_never_the_best(ray_cluster: None) -> None:
    config = SearchConfig(seeds=(0,), scheduler="asha", num_reports=4)
    candidates = [CANDIDATES[0], CANDIDATES[2], CANDIDATES[3], CANDIDATES[4]]
    found = search(candidates, ROWS, config, WorkersConfig(num_workers=1))
    reports = {t.candidate.name: t.num_reports for t in found.trials}
    assert reports["lr-slow"] < 4
    assert max(reports.values()) == 4
    assert found.ranking[0].num_reports == 4
    assert found.ranking[-1].num_reports == min(reports.values())
    for trial in found.trials:
        steps = trial.runs[0].num_steps
        assert steps == 13 * trial.num_reports // 4


def test_a_cluster_too_small_is_refused_before_anything_starts(
    ray_cluster: None, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match="64 workers of 1 CPUs needs 64 CPUs"):
        search(CANDIDATES, ROWS, workers=WorkersConfig(num_workers=64), out=tmp_path)
    assert not (tmp_path / "trials.jsonl").exists()


def test_an_unwritable_folder_is_named(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"trials\.jsonl: can't be written"):
        search(CANDIDATES, ROWS, out=tmp_path / "file")


def test_ranking_puts_those_that_went_furthest_first() -> None:
    def trial(name: str, num_reports: int, auc: float) -> TrialResult:
        class Fake(TrialResult):
            @property
            def mean_auc(self) -> float:
                return auc

        return Fake(candidate=CANDIDATES[0], runs=(None,), num_reports=num_reports, error=name)

    found = SearchResult(
        trials=(trial("a", 1, 0.9), trial("b", 2, 0.6), trial("c", 2, 0.7)),
        wall_seconds=1.0,
        search_overhead_s=0.0,
        num_workers=1,
    )
    assert [t.error for t in found.ranking] == ["c", "b", "a"]


@pytest.mark.parametrize(
    "wrong", [{"seeds": ()}, {"seeds": (1, 1)}, {"seeds": (-1,)}, {"num_reports": 0}]
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"seeds|num_reports"):
        SearchConfig(**wrong)
