"""Does a distilled set rank models that nobody here wrote? FuxiCTR's zoo, trained by its own code.

    diet distill --config examples/kuairand/distill.yaml --out runs/kuairand
    PYTHONPATH=FOLDER python benchmarks/fuxictr_zoo.py runs/kuairand --seeds 3

`diet export --to fuxictr --full` writes the run for it. From there on everything is FuxiCTR's,
unchanged: its feature map, loaders, models, optimiser, `fit` and `evaluate`, as its `run_expid.py`
calls them. Each model is trained on the whole log and on the distilled rows, one epoch in the order
of time; the second by the recipe as far as FuxiCTR can follow it (size of mini-batches, learning
rate). The same architectures of ours go through the same two arms. Prints one JSON object. How to
get FOLDER stands in `benchmarks/training/fuxictr_leg.py`: PyPI's package lacks the zoo.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from benchmarks.report import note
from benchmarks.training.fuxictr_leg import MODELS, WITH_HISTORY
from diet_ray.data.log import PreparedLog
from diet_ray.export import fuxictr
from diet_ray.export.rows import ExportRows
from diet_ray.models.catalogue import Candidate
from diet_ray.search.agreement import Arm, ceiling, fidelity
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.runs import FullRunConfig, TrainingRows, distilled_run, full_run

EVALUATION_ROWS = 20_000
NAME = "log"
ARMS = ("full", "train")
SLOW = ("dien",)
Figures = tuple[float, float, float]
"""AUC on the ranking slice, AUC on the regret slice, seconds."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    candidates = zoo(arguments)
    log = PreparedLog.open(str(arguments.run / "log"))
    report: dict[str, Any] = {"num_models": len(candidates), "models": [c.name for c in candidates]}
    with tempfile.TemporaryDirectory() as folder:
        rows = ExportRows.of_run(arguments.run, NAME, EVALUATION_ROWS, with_full=True)
        report["num_rows_full"] = log.num_train_rows
        report["num_rows_distilled"] = rows.dataset.num_slots
        fuxictr.export(rows, Path(folder) / "export")
        theirs = Theirs(Path(folder) / "export", rows, Path(folder) / "models")
        report["fuxictr"] = compared("fuxictr", theirs, candidates, arguments.seeds)
        report["ours"] = compared("ours", Ours(rows), candidates, arguments.seeds)
    print(json.dumps(report, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a distilled run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--models", nargs="*", help="architectures; default: all but the slow ones")
    parser.add_argument("--batch-size", type=int, default=256, help="of full training")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of full training")
    return parser.parse_args()


def zoo(arguments: argparse.Namespace) -> list[Candidate]:
    return [
        Candidate(
            name=name,
            architecture=name,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
        )
        for name in arguments.models or [m for m in MODELS if m not in SLOW]
    ]


def compared(
    who: str,
    train: Callable[[Candidate, int, str], Figures],
    candidates: list[Candidate],
    num_seeds: int,
) -> dict[str, Any]:
    """Both arms of all candidates, (n, S, 3) each, and how well they agree."""
    found: dict[str, np.ndarray] = {}
    for arm in ARMS:
        runs = []
        for candidate in candidates:
            runs.append([train(candidate, seed, arm) for seed in range(num_seeds)])
            note(f"{who}, {arm}, {candidate.name}: AUC {np.mean(runs[-1], axis=0)[0]:.4f}")
        found[arm] = np.array(runs)
    full, distilled = found["full"], found["train"]
    blocks = np.empty((*full.shape[:2], 0))
    arm = Arm(ranking=full[..., 0], regret=full[..., 1], blocks=blocks)
    score = distilled[..., 0].mean(axis=1)
    # A few models that hardly learn make any tau look good.
    top = np.argsort(-full[..., 0].mean(axis=1))[: len(candidates) // 2].tolist()
    return {
        **fidelity(arm, score),
        **ceiling(arm),
        "top_half": {**fidelity(arm[top], score[top]), **ceiling(arm[top])},
        "full_seconds": float(full[..., 2].sum()),
        "distilled_seconds": float(distilled[..., 2].sum()),
        "candidates": [
            {"name": c.name, "full_auc": f.tolist(), "distilled_auc": d.tolist()}
            for c, f, d in zip(candidates, full[..., 0], distilled[..., 0], strict=True)
        ],
    }


class Theirs:
    """FuxiCTR's training, as its `run_expid.py` does it. `ImportError` unless it is on the path."""

    def __init__(self, exported: Path, rows: ExportRows, scratch: Path) -> None:
        from fuxictr.utils import load_dataset_config

        logging.getLogger().setLevel(logging.WARNING)
        self.data = load_dataset_config(str(exported / "config"), NAME)
        self.folder = exported / NAME
        self.recipe = rows.dataset.recipe
        self.sequences = rows.features.sequence
        self.scratch = scratch
        (scratch / NAME).mkdir(parents=True)

    def __call__(self, candidate: Candidate, seed: int, arm: str) -> Figures:
        import model_zoo
        from fuxictr.features import FeatureMap
        from fuxictr.pytorch.dataloaders import RankDataLoader
        from fuxictr.pytorch.torch_utils import seed_everything
        from model_zoo.GDCN.src.GDCN import GDCNP

        begin_s = time.perf_counter()
        params = self._params(candidate, arm)
        features = FeatureMap(NAME, str(self.folder))
        features.load(str(self.folder / "feature_map.json"), params)
        seed_everything(seed)
        name = MODELS[candidate.architecture][0]
        model = (GDCNP if name == "GDCNP" else getattr(model_zoo, name))(features, **params)
        train, valid, test = RankDataLoader(features, stage="both", **params).make_iterator()
        model.fit(train, validation_data=valid, **params)
        seconds = time.perf_counter() - begin_s
        return model.evaluate(valid)["AUC"], model.evaluate(test)["AUC"], seconds

    def _params(self, candidate: Candidate, arm: str) -> dict[str, Any]:
        is_full = arm == "full"
        size = candidate.batch_size
        pace = 1.0 if is_full else math.sqrt(self.recipe.steps_per_step)
        params = self.data | {
            "train_data": str(self.folder / f"{arm}.parquet"),
            "model_root": str(self.scratch),
            "num_workers": 0,
            "shuffle": False,
            "verbose": 0,
            "epochs": 1 if is_full else self.recipe.epochs,
            "batch_size": size if is_full else self.recipe.batch_size_of(size),
            "learning_rate": pace * candidate.learning_rate,
            "embedding_dim": candidate.embedding_size,
            "optimizer": "adam",
            "loss": "binary_crossentropy",
            "metrics": ["AUC"],
            "monitor": "AUC",
        }
        return params | self._arguments(candidate)

    def _arguments(self, candidate: Candidate) -> dict[str, Any]:
        arguments = MODELS[candidate.architecture][1](candidate)
        if candidate.architecture not in WITH_HISTORY:
            return arguments
        # Those attend to the first sequence that shares its ids with a field, so it isn't pooled.
        history = next(s for s in self.sequences if s.target is not None)
        named = {"_target_field": history.target, "_sequence_field": history.name}
        for ending, field in named.items():
            arguments |= {key: field for key in arguments if key.endswith(ending)}
        return arguments | {"feature_specs": [{"name": history.name, "feature_encoder": None}]}


class Ours:
    """The same architectures of this project, on the same rows."""

    def __init__(self, rows: ExportRows) -> None:
        self.log, self.dataset = rows.log, rows.dataset
        self.evaluation = evaluation_rows(rows.log, EVALUATION_ROWS)
        dataset = rows.dataset
        self.rows = TrainingRows.of(dataset)

    def __call__(self, candidate: Candidate, seed: int, arm: str) -> Figures:
        if arm == "full":
            run = full_run(candidate, self.log, seed, self.evaluation, FullRunConfig())
        else:
            features, recipe = self.dataset.features, self.dataset.recipe
            run = distilled_run(candidate, self.rows, features, recipe, self.evaluation, seed)
        found = run.evaluation
        return found.auc, found.regret_auc or math.nan, run.train_seconds


if __name__ == "__main__":
    main()
