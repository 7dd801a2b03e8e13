"""Full training and distilled search of the same candidates, and what either took."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.laboratory.candidates import candidates_of
from benchmarks.laboratory.logs import EXAMPLES, TEST_FRACTION
from benchmarks.processes import CpuClock
from benchmarks.scoring.legs import ray_folder
from diet_ray.cluster import connect
from diet_ray.data.log import PreparedLog
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.synthetic import SyntheticConfig
from diet_ray.data.stages import StageConfig
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.run import RunFolder, distill
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.models.catalogue import Candidate
from diet_ray.search.consistency import ConsistencyConfig, compare
from diet_ray.search.consistency_report import ConsistencyReport
from diet_ray.search.distilled_set import DistilledSet

NUM_SEEDS = 2
AMORTISED_CANDIDATES = 40
OBJECT_STORE_BYTES = 2 * 1024**3
HEADLINES = (
    "iteration_speedup",
    "amortised_speedup",
    "resolved_pair_accuracy",
    "search_overhead",
)
FIRST_TWELVE = (
    "lr", "fm", "dnn", "wide_deep", "deepfm", "nfm",
    "dcn", "dcnv2", "pnn", "autoint", "finalmlp", "din",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A log, distilled at the default effort, and what is searched on it."""

    name: str
    distill: DistillConfig
    num_candidates: int

    def candidates(self, log: PreparedLog) -> list[Candidate]:
        """One of each architecture at its defaults, or as many draws of each as are wanted."""
        if self.num_candidates == len(FIRST_TWELVE):
            return [Candidate(name=name, architecture=name) for name in FIRST_TWELVE]
        draws = -(-self.num_candidates // len(FIRST_TWELVE)) - 1
        found = [c for c in candidates_of(log.features, draws) if c.architecture in FIRST_TWELVE]
        step = len(found) / self.num_candidates
        return [found[int(i * step)] for i in range(self.num_candidates)]


def synthetic(num_rows: int) -> Trial:
    """Everything that architectures differ for at once; users and items grow with the log."""
    config = SyntheticConfig(
        num_rows=num_rows,
        seed=5,
        num_users=num_rows // 100,
        num_items=num_rows // 400,
        crosses=0.8,
        interest=0.8,
    )
    return Trial(
        name=f"synthetic-{num_rows}",
        distill=DistillConfig(
            schema=EXAMPLES / "synthetic" / "schema.yaml",
            source=SourceConfig(format="synthetic", synthetic=config),
            stages=StageConfig(by="rows", rows=num_rows // 20, test_fraction=TEST_FRACTION),
        ),
        num_candidates=len(FIRST_TWELVE),
    )


def movielens(path: Path) -> Trial:
    return Trial(
        name="movielens-1m-liked",
        distill=DistillConfig(
            schema=EXAMPLES / "movielens" / "schema.yaml",
            source=SourceConfig(paths=(str(path.resolve()),)),
            stages=StageConfig(by="rows", rows=47_000, test_fraction=TEST_FRACTION),
        ),
        num_candidates=40,
    )


def compared(trial: Trial, folder: Path) -> dict[str, Any]:
    """Distils the log, searches it, trains all candidates on the full log, in this order."""
    run = RunFolder(folder / trial.name)
    kept = run.path.with_suffix(".distill.json")
    with ray_folder(), CpuClock() as clock:
        begin_s = time.time()
        connect(object_store_bytes=OBJECT_STORE_BYTES, include_dashboard=False)
        if not (run.distilled / "manifest.json").exists():
            distill(trial.distill, run.path)
            end_s = time.time()
            cpu_s = clock.between(begin_s, end_s)
            kept.write_text(json.dumps({"seconds": end_s - begin_s, "cpu_seconds": cpu_s}))
        dataset = DistilledDataset.load(run.distilled)
        log = PreparedLog.open(str(run.log))
        # Full runs are kept from one call to the next; the search is done anew.
        (run.path / "consistency" / "trials.jsonl").unlink(missing_ok=True)
        searched_s: list[float] = []

        def watch(what: str, done: int, total: int) -> None:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
            if what == "distilled runs" and done == total:
                searched_s.append(time.time())

        seconds = float(dataset.manifest.details["distill_seconds"])
        distilled = DistilledSet.of(dataset, distill_seconds=seconds)
        config = ConsistencyConfig(seeds=tuple(range(NUM_SEEDS)), baselines=())
        candidates, out = trial.candidates(log), run.path / "consistency"
        begin_s = time.time()
        report = compare(
            distilled, log, candidates, config, out, dataset=trial.name, progress=watch
        )
        search_cpu_s = clock.between(begin_s, searched_s[0])
    return figures(report, search_cpu_s, json.loads(kept.read_text()))


def figures(
    report: ConsistencyReport, search_cpu_s: float, distilling: dict[str, float]
) -> dict[str, Any]:
    """What a benchmark prints of a comparison.

    search_cpu_s: CPU seconds of the search and all its processes; distilling: `seconds` and
    `cpu_seconds` of preparing and distilling the log.
    """
    full_cpu_s = report["full_run_cpu_seconds"]
    assert full_cpu_s is not None
    share = AMORTISED_CANDIDATES / report["num_counted"]
    return {
        "iteration_speedup": report["iteration_speedup"],
        "iteration_speedup_by_cpu_time": full_cpu_s / search_cpu_s,
        "amortised_speedup": amortised(report, AMORTISED_CANDIDATES, report["distill_seconds"]),
        "amortised_speedup_with_preparation": amortised(
            report, AMORTISED_CANDIDATES, distilling["seconds"]
        ),
        "amortised_speedup_by_cpu_time": full_cpu_s
        * share
        / (distilling["cpu_seconds"] + search_cpu_s * share),
        "search_overhead": report["search_overhead_seconds"] / report["distilled_seconds"],
        "search_cpu_seconds": search_cpu_s,
        "distilling": distilling,
        **{
            key: report[key]  # type: ignore[literal-required]
            for key in (
                "resolved_pair_accuracy",
                "resolved_pair_accuracy_interval",
                "kendall_tau",
                "num_rows_full",
                "num_rows_distilled",
                "num_counted",
                "full_seconds",
                "distilled_seconds",
                "distill_seconds",
                "full_run_cpu_seconds",
                "distilled_run_cpu_seconds",
                "num_workers",
                "num_full_runs_reused",
            )
        },
        "by_candidate": {
            c["name"]: {
                arm: {"auc": c[arm]["auc"], "seconds": sum(c[arm]["seconds"])}
                for arm in ("full", "distilled")
            }
            for c in report["candidates"]
        },
    }


def amortised(report: ConsistencyReport, num_candidates: int, distill_s: float) -> float:
    """Full over distilling and distilled, by the clock, with the mean candidate's cost of each; the
    search's overhead is counted once."""
    share = num_candidates / report["num_counted"]
    full, overhead = report["full_seconds"] * share, report["search_overhead_seconds"]
    distilled = (report["distilled_seconds"] - overhead) * share + overhead
    return full / (distill_s + distilled)
