"""The whole comparison on a small log, and what of it needs no cluster."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from diet_ray.data.batch import FeatureSpec, SequenceSpec
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.search import consistency, consistency_report, results
from diet_ray.search.arms import Costs
from diet_ray.search.baselines import BASELINES, Setting, hard, random_rows
from diet_ray.search.consistency import ConsistencyConfig, compare
from diet_ray.search.consistency_report import write
from diet_ray.search.distilled_set import DistilledSet
from diet_ray.search.evaluation import Evaluation, evaluation_rows
from diet_ray.search.records import TrialResult
from diet_ray.search.resolution import RESOLUTION_SDS
from diet_ray.search.runs import RunResult, full_run
from diet_ray.search.same_features import require_same_features
from diet_ray.search.trials import SearchConfig, SearchResult
from diet_ray.search.workers import WorkersConfig
from diet_ray.storage import Folder
from diet_ray.training.full_runs import FORMAT, FullRuns, run_file
from diet_ray.training.recipe import Recipe
from tests.search.candidates import BROKEN, CANDIDATES
from tests.search.memory_log import FEATURES, MemoryLog, memory_log

CONFIG = ConsistencyConfig(evaluation_rows=400, num_replicates=20)


@pytest.fixture
def log() -> MemoryLog:
    return memory_log()


def distilled(log: MemoryLog, features: FeatureSpec = FEATURES) -> DistilledSet:
    return DistilledSet(
        train=hard(random_rows(log, 210, seed=1)),
        features=features,
        recipe=Recipe(batch_share=1 / 8, steps_per_step=2.0),
        num_bytes=400,
        distill_seconds=7.0,
    )


KEYS = {
    *("dataset", "num_rows_full", "num_rows_distilled", "row_fraction", "byte_fraction"),
    *("num_candidates", "kendall_tau", "kendall_tau_ceiling", "spearman_rho"),
    *("spearman_rho_ceiling", "resolved_pair_accuracy", "resolved_pair_accuracy_ceiling"),
    *("num_resolved_pairs", "top1_regret", "top3_overlap", "seed_sd", "row_visit_fraction"),
    *("iteration_speedup", "amortised_speedup", "full_seconds", "distilled_seconds"),
    *("distill_seconds", "candidates", "baselines"),
}
BASELINE_KEYS = {
    *("kendall_tau", "resolved_pair_accuracy", "top1_regret"),
    *("distilled_seconds", "row_visit_fraction"),
}


def test_the_whole_comparison(ray_cluster: None, log: MemoryLog, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    out = tmp_path / "out"
    report = compare(
        distilled(log),
        log,
        (*CANDIDATES, BROKEN),
        CONFIG,
        out,
        dataset="memory",
        proxy=lambda batch: batch.numeric[:, 0],
        progress=lambda *told: seen.append(told),
    )
    write(report, out / "consistency.json")
    found: dict[str, Any] = json.loads((out / "consistency.json").read_text())
    assert found == json.loads(json.dumps(report))
    assert "NaN" not in (out / "consistency.json").read_text()
    assert set(found) >= KEYS

    by_name = {c["name"]: c for c in found["candidates"]}
    assert by_name["lr-again"]["counted"] is False
    assert by_name["lr-again"]["full"]["auc"] == by_name["lr"]["full"]["auc"]
    assert by_name["broken"]["error"] == "distilled run: RuntimeError: no such luck"
    assert by_name["broken"]["full"]["auc"] == by_name["broken"]["distilled"]["auc"] == []
    counted = [c for c in found["candidates"] if c["counted"]]
    assert [c["name"] for c in counted] == ["lr", "dnn", "dnn-small", "lr-slow"]
    assert found["num_candidates"] == 6
    assert found["num_counted"] == 4

    full = np.array([c["full"]["auc"] for c in counted])
    ours = np.array([c["distilled"]["auc"] for c in counted]).mean(axis=1)
    means = full.mean(axis=1)
    assert full.shape == (4, 2)
    assert found["kendall_tau"] == pytest.approx(stats.kendalltau(means, ours).statistic)
    assert found["spearman_rho"] == pytest.approx(stats.spearmanr(means, ours).statistic)
    assert found["kendall_tau_ceiling"] == pytest.approx(
        stats.kendalltau(full[:, 0], full[:, 1]).statistic
    )
    seed_sd = np.sqrt(np.mean(np.var(full, axis=1, ddof=1)))
    resolved = [
        (i, j) for i, j in combinations(range(4), 2) if abs(means[i] - means[j]) > 2 * seed_sd
    ]
    assert found["num_resolved_pairs"] == len(resolved) > 0
    assert found["resolved_pair_accuracy"] == pytest.approx(
        np.mean([(means[i] - means[j]) * (ours[i] - ours[j]) > 0 for i, j in resolved])
    )
    runs = np.array([c["distilled"]["auc"] for c in counted])
    noise = np.sqrt(np.mean(np.var(runs, axis=1, ddof=1)))
    assert found["distilled_seed_sd"] == pytest.approx(noise)
    # Two seeds: √(2/2) of the seed SD is the standard error of a difference.
    assert found["resolution_threshold"] == pytest.approx(RESOLUTION_SDS * noise)
    assert found["num_unresolved_distilled_pairs"] == sum(
        abs(ours[i] - ours[j]) <= RESOLUTION_SDS * noise for i, j in combinations(range(4), 2)
    )
    later = np.array([c["full"]["regret_auc"] for c in counted]).mean(axis=1)
    assert found["top1_regret"] == pytest.approx(later.max() - later[np.argmax(ours)])

    assert found["row_fraction"] == found["row_visit_fraction"] == pytest.approx(0.1)
    assert found["byte_fraction"] == 0.1
    runs_seconds = sum(sum(c["full"]["seconds"]) for c in found["candidates"])
    assert found["full_seconds"] == pytest.approx(runs_seconds / 2)
    assert found["iteration_speedup"] == pytest.approx(
        found["full_seconds"] / found["distilled_seconds"]
    )
    assert found["amortised_speedup"] == pytest.approx(
        found["full_seconds"] / (found["distilled_seconds"] + 7.0)
    )
    assert found["distilled_seconds"] > found["distilled_run_seconds"] / 2

    assert list(found["baselines"]) == list(BASELINES)
    for name, baseline in found["baselines"].items():
        assert set(baseline) >= BASELINE_KEYS
        assert baseline["kendall_tau"] is not None, name
        assert "num_failed" not in baseline["details"]
    assert found["baselines"]["random_soft"]["row_visit_fraction"] == pytest.approx(0.1)
    # Distillation took far longer than these full runs: the whole stream is affordable.
    assert found["baselines"]["equal_amortised"]["details"] == {"stream_fraction": 1.0}

    assert found["hyper_parameter_only"]["num_pairs"] == 2
    assert found["architecture_only"]["num_pairs"] == 0
    assert found["architecture_only"]["kendall_tau"] is None
    assert ("full runs", 12, 12) in seen
    assert {c for c, _, _ in seen} >= {"distilled runs", "full runs", "baseline halving"}
    assert len(list((out / "full_runs").iterdir())) == 8
    assert len((out / "trials.jsonl").read_text().splitlines()) == 6


def test_without_a_proxy_and_with_baselines_left_out(
    ray_cluster: None, log: MemoryLog, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        CONFIG, seeds=(4,), baselines=("random_soft", "prior"), workers=WorkersConfig(num_workers=1)
    )
    rows = evaluation_rows(log, 400)
    for candidate in CANDIDATES[2:4]:
        # Already paid for, so that no trainer has to start.
        result = results.to_json(full_run(candidate, log, 4, rows, config.full))
        name = run_file(candidate, 4, log, rows, config.full, use_gpu=False)
        content = json.dumps({"format": FORMAT, "result": result})
        Folder.at(tmp_path / "out" / "full_runs").write(name, content.encode())
    found = compare(
        distilled(log), log, CANDIDATES[2:4], config, tmp_path / "out", dataset="memory"
    )
    assert found["num_full_runs_reused"] == 2
    assert found["baselines"]["random_soft"]["details"] == {"skipped": "no proxy was given"}
    assert found["baselines"]["recent"]["details"] == {"skipped": "not asked for"}
    assert found["baselines"]["recent"]["kendall_tau"] is None
    assert found["baselines"]["prior"]["kendall_tau"] in (-1.0, 1.0)
    # One seed, two candidates: what needs more is empty, not invented.
    for key in (
        *("kendall_tau_ceiling", "resolved_pair_accuracy", "seed_sd", "top3_overlap"),
        *("distilled_seed_sd", "resolution_threshold", "num_unresolved_distilled_pairs"),
    ):
        assert found[key] is None  # type: ignore[literal-required]
    assert found["num_resolved_pairs"] == 0


def test_what_a_log_and_a_set_may_differ_in() -> None:
    tags = SequenceSpec(name="tags", max_length=5, target=None, num_ids=9)
    spec = FeatureSpec(
        categorical=("user", "item"), num_ids=(5, 6), numeric=("age",), sequence=(tags,)
    )
    require_same_features(spec, spec)
    require_same_features(spec, dataclasses.replace(spec, num_ids=(5, 60)))
    for changed, message in [
        ({"categorical": ("user",), "num_ids": (5,)}, "categorical field `item`, the log has none"),
        ({"numeric": ("age", "price")}, "numeric field `price`, the distilled set has none"),
        ({"categorical": ("item", "user")}, "are ordered"),
        ({"num_ids": (5, 4)}, "field `item`: the distilled set knows 6 ids, the log 4"),
        ({"sequence": ()}, "sequence field `tags`, the log has none"),
        ({"sequence": (dataclasses.replace(tags, max_length=7),)}, "sequence `tags`: max_length 5"),
        ({"sequence": (dataclasses.replace(tags, num_ids=8),)}, "field `tags`"),
    ]:
        with pytest.raises(ConfigError, match=message):
            require_same_features(spec, dataclasses.replace(spec, **changed))


def test_bad_input_is_refused_before_anything_runs(log: MemoryLog, tmp_path: Path) -> None:
    other = dataclasses.replace(FEATURES, categorical=("user", "film"))
    with pytest.raises(ConfigError, match="`film`"):
        compare(distilled(log, other), log, CANDIDATES, CONFIG, tmp_path / "out", dataset="x")
    with pytest.raises(ConfigError, match="at least two"):
        compare(distilled(log), log, CANDIDATES[:1], CONFIG, tmp_path / "out", dataset="x")
    assert not (tmp_path / "out").exists()


def test_arms_never_share_an_initialisation(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[str, set[int]] = {}

    def result(candidate: Candidate, seed: int) -> RunResult:
        return RunResult(
            name=candidate.name,
            seed=seed,
            evaluation=Evaluation(
                auc=0.6, logloss=0.6, regret_auc=0.6, regret_logloss=0.6, block_auc=()
            ),
            train_seconds=1.0,
            evaluation_seconds=0.25,
            row_visits=10.0,
            num_steps=1,
            curve=(),
        )

    def search(candidates: Any, rows: Any, config: SearchConfig, *rest: Any) -> SearchResult:
        used["search"] = set(config.seeds)
        trials = tuple(
            TrialResult(candidate=c, runs=tuple(result(c, s) for s in config.seeds), num_reports=1)
            for c in candidates
        )
        return SearchResult(trials=trials, wall_seconds=9.0, search_overhead_s=0.0, num_workers=1)

    def train_full(candidates: Any, seeds: Any, *rest: Any) -> FullRuns:
        used["full"] = set(seeds)
        runs = {(c.name, s): result(c, s) for c in candidates for s in seeds}
        return FullRuns(results=runs, failures={}, num_reused=0, num_workers=1)

    def no_baselines(setting: Setting, *rest: Any) -> dict[str, str]:
        used["baselines"] = set(setting.seeds)
        return dict.fromkeys(BASELINES, "not asked for")

    monkeypatch.setattr(consistency, "search", search)
    monkeypatch.setattr(consistency, "train_full", train_full)
    monkeypatch.setattr(consistency, "_baselines", no_baselines)
    monkeypatch.setattr(WorkersConfig, "resolve", lambda self, num_runs: self)
    config = dataclasses.replace(CONFIG, seeds=(0, 1, 999_999))
    compare(distilled(log), log, CANDIDATES[2:4], config, tmp_path, dataset="memory")
    assert used["full"] == {0, 1, 999_999}
    for one, other in combinations(("full", "search", "baselines"), 2):
        assert len(used[one]) == len(used[other]) == 3
        assert not used[one] & used[other], (one, other)


def test_pairs_that_differ_in_one_thing() -> None:
    candidates = [
        Candidate(name="a", architecture="dnn"),
        Candidate(name="b", architecture="deepfm"),
        Candidate(name="c", architecture="dnn", embedding_size=4),
        Candidate(name="d", architecture="deepfm", embedding_size=8),
    ]
    assert np.argwhere(
        np.triu(consistency_report._alike(candidates, but="architecture"))
    ).tolist() == [[0, 1]]
    assert np.argwhere(np.triu(consistency_report._same_architecture(candidates))).tolist() == [
        [0, 2],
        [1, 3],
    ]


@pytest.mark.parametrize(("distill_seconds", "expected"), [(0.0, 0.15), (8.0, 0.95), (100.0, 1.0)])
def test_equal_amortised_cost_by_hand(distill_seconds: float, expected: float) -> None:
    # 4 runs, 2 workers: a run may take (2 + distillation) · 2 / 4 s, of which 0.25 to evaluate.
    full = SimpleNamespace(
        seconds=5.25,
        train_seconds=5.0,
        evaluation_seconds=0.25,
        row_visits=1000.0,
        cpu_seconds=None,
    )
    ours = SimpleNamespace(seconds=0.5, row_visits=10.0, cpu_seconds=0.4)
    arms: Any = SimpleNamespace(
        full=[[full] * 2] * 2,
        distilled=[[ours] * 2] * 2,
        complete=[0, 1],
        search=SimpleNamespace(num_workers=2, wall_seconds=2.0),
    )
    costs = Costs(arms, distill_seconds)
    assert costs.amortised_fraction == pytest.approx(expected)
    assert costs.full_run_cpu_seconds is None
    assert costs.distilled_run_cpu_seconds == pytest.approx(1.6)
    ours.row_visits = 999.0
    assert Costs(arms, 0.0).amortised_fraction == 0.999


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": ()},
        {"seeds": (0, 0)},
        {"seeds": (-1,)},
        {"seeds": (1_000_000,)},
        {"evaluation_rows": 2},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"seeds|evaluation_rows"):
        ConsistencyConfig(**wrong)
