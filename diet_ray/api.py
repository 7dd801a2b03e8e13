"""The commands as functions, for notebooks and other programs. `diet_ray` offers them by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from diet_ray.cluster import connect
from diet_ray.config import from_mapping
from diet_ray.distillation import run as runs
from diet_ray.distillation.config import DistillConfig, load_distill_config
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.models.catalogue import Candidate, default_candidates
from diet_ray.search import comparison
from diet_ray.search.consistency import ConsistencyConfig
from diet_ray.search.trials import SearchConfig
from diet_ray.search.workers import WorkersConfig

EVALUATION_ROWS = 20_000


def load(path: str | Path) -> DistilledDataset:
    """A distilled dataset: its folder, or the run that it belongs to."""
    folder = Path(path)
    return DistilledDataset.load(folder / "distilled" if (folder / "distilled").is_dir() else path)


def distill(
    config: str | Path | Mapping[str, Any], out: str | Path, *, address: str | None = None
) -> DistilledDataset:
    """Distils a log into the run folder `out`, or goes on with a run that was interrupted.

    `config` is a YAML file or what one would hold; then paths are relative to the working folder.
    Joins the Ray cluster at `address` or RAY_ADDRESS, else starts one. A run that is finished is
    given back as it is.
    """
    if isinstance(config, Mapping):
        settings = from_mapping(DistillConfig, config, "config")
    else:
        settings = load_distill_config(config)
    if (Path(out) / "distilled" / "manifest.json").exists():
        return load(out)
    connect(address)
    return runs.distill(settings, Path(out))


def update(
    run: str | Path, log: str | Sequence[str], *, address: str | None = None
) -> DistilledDataset:
    """Adds new files to a run, in time order, without reading history again."""
    paths = (log,) if isinstance(log, str) else tuple(log)
    known = runs.load_run_config(runs.RunFolder(Path(run))).source
    connect(address)
    return runs.update(Path(run), replace(known, paths=paths, synthetic=None))


def search_candidates(
    run: str | Path,
    candidates: Sequence[Candidate] | None = None,
    *,
    seeds: int = 2,
    evaluation_rows: int = EVALUATION_ROWS,
    workers: int | None = None,
    out: str | Path | None = None,
    address: str | None = None,
) -> pd.DataFrame:
    """Ranks candidates on a run's distilled dataset, best first; all of the catalogue by default.

    Columns candidate, auc, best_place and worst_place (those that noise leaves open; missing with
    one seed), seconds.
    """
    connect(address)
    result = comparison.search_run(
        Path(run),
        default_candidates() if candidates is None else candidates,
        SearchConfig(seeds=tuple(range(seeds))),
        WorkersConfig(num_workers=workers),
        Path(out) if out else Path(run) / "search",
        evaluation_rows,
        Console(quiet=True),
    )
    found = result.resolution
    places = [(None, None)] * len(result.ranking) if found is None else found.places
    return pd.DataFrame(
        {
            "candidate": trial.candidate.name,
            "auc": trial.mean_auc,
            "best_place": best,
            "worst_place": worst,
            "seconds": sum(r.seconds for r in trial.runs),
        }
        for trial, (best, worst) in zip(result.ranking, places, strict=True)
    )


def check_consistency(
    run: str | Path,
    candidates: Sequence[Candidate] | None = None,
    *,
    seeds: int = 2,
    evaluation_rows: int = EVALUATION_ROWS,
    workers: int | None = None,
    out: str | Path | None = None,
    address: str | None = None,
) -> Mapping[str, Any]:
    """Trains the candidates on the whole log too, and says how far the two orders agree.

    Gives what consistency.json holds; writes it, and report.html, to `out` or RUN/consistency.
    """
    connect(address)
    config = ConsistencyConfig(
        seeds=tuple(range(seeds)),
        evaluation_rows=evaluation_rows,
        workers=WorkersConfig(num_workers=workers),
    )
    return comparison.compare_run(
        Path(run),
        default_candidates() if candidates is None else candidates,
        config,
        Path(out) if out else Path(run) / "consistency",
        Console(quiet=True),
    )
