"""Which scores find wrong labels? Synthetic logs with labels flipped at known training rows.

    python benchmarks/flipped_labels.py --seeds 0 1 2 --json flipped.json

For each log: write it, flip a share of the training part's labels, prepare it, train checkpoints
along it and score every row. A score's AUC is the share of (flipped, untouched) pairs of training
rows in which the flipped one scores higher; influence on the validation block counts negated, since
a wrong label harms. `ceiling` is the loss under the probability that labels were drawn from: what
a flip leaves to see, and no score can beat it on average. Prints a table of means over seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from diet_ray.data.log import PreparedLog
from diet_ray.data.prepare import prepare
from diet_ray.data.schema import Schema
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.synthetic import SyntheticConfig, write_synthetic
from diet_ray.data.stages import StageConfig
from diet_ray.models.catalogue import Candidate
from diet_ray.scoring.config import RowScore, ScoreConfig
from diet_ray.scoring.score_log import SCORES, score_log
from diet_ray.scoring.train import train_checkpoints
from diet_ray.training.metrics import auc

SCHEMA = Path(__file__).parents[1] / "examples" / "synthetic" / "schema.yaml"
FLIPPED_SHARE = 0.05
SCORED: tuple[RowScore, ...] = (
    "loss",
    "error",
    "last_layer",
    "full",
    "self_influence",
    "adam_self_influence",
    "validation",
    "adam_validation",
)
HARM: frozenset[RowScore] = frozenset({"validation", "adam_validation"})
"""Scores that a harmful row has little of."""
CEILING = "ceiling"
LOGS = {
    "strong signal": SyntheticConfig(
        num_users=300,
        num_items=200,
        num_categories=20,
        new_item_share=0.0,
        drift=0.0,
        crosses=3.0,
        label_noise=0.0,
    ),
    "defaults": SyntheticConfig(),
}


@dataclass(frozen=True)
class FlippedLog:
    log: PreparedLog
    is_flipped: np.ndarray
    """(training rows,)"""
    true_loss: np.ndarray
    """(training rows,): that of the label as it stands, under the true probability."""


def flipped_log(config: SyntheticConfig, folder: Path) -> FlippedLog:
    """Writes the log into `folder` with `FLIPPED_SHARE` of its training labels flipped."""
    stages = StageConfig(test_fraction=0.1)
    files = write_synthetic(config, folder / "raw")
    num_train = config.num_rows - round(config.num_rows * stages.test_fraction)
    rng = np.random.default_rng([config.seed, 2])
    is_flipped = np.zeros(config.num_rows, dtype=bool)
    is_flipped[rng.choice(num_train, round(FLIPPED_SHARE * num_train), replace=False)] = True
    losses = []
    first_row = 0
    for file in files:
        table = pq.read_table(file)
        label = table["click"].to_numpy() ^ is_flipped[first_row : first_row + len(table)]
        p = table["true_probability"].to_numpy()
        losses.append(-np.log(np.where(label == 1, p, 1 - p)))
        index = table.schema.get_field_index("click")
        pq.write_table(table.set_column(index, "click", pa.array(label, pa.int8())), file)
        first_row += len(table)
    source = SourceConfig(paths=(str(folder / "raw"),))
    log = prepare(source, Schema.load(SCHEMA), stages, folder / "log")
    return FlippedLog(log, is_flipped[:num_train], np.concatenate(losses)[:num_train])


def detection(
    flipped: FlippedLog,
    candidate: Candidate,
    num_checkpoints: int,
    config: ScoreConfig,
    folder: Path,
) -> dict[str, float]:
    """AUC of every score of `config`, and of `ceiling`, at telling flipped rows from the others."""
    log = flipped.log
    checkpoints = train_checkpoints(log, candidate, num_checkpoints, folder / "checkpoints")
    score_log(log, checkpoints, config, folder / "scored")
    table = pds.dataset(folder / "scored" / SCORES, partitioning="hive").to_table()
    columns = {name: table[name].to_numpy()[: log.num_train_rows] for name in config.scores}
    found = {n: auc(flipped.is_flipped, -x if n in HARM else x) for n, x in columns.items()}
    return found | {CEILING: auc(flipped.is_flipped, flipped.true_loss)}


def print_table(report: Mapping[str, list[dict[str, float]]], console: Console) -> None:
    """Mean AUC and its range over seeds, a column a log."""
    table = Table("score", *report, title="AUC of finding flipped labels", title_justify="left")
    for name in (*SCORED, CEILING):
        sign = "−" if name in HARM else ""
        cells = []
        for seeds in report.values():
            values = [found[name] for found in seeds]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        table.add_row(sign + name, *cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--logs", choices=LOGS, nargs="+", default=list(LOGS))
    parser.add_argument("--architecture", default="dnn")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    parser.add_argument("--json", type=Path, help="also write the AUCs of every seed there")
    arguments = parser.parse_args()

    from diet_ray.cluster import connect

    connect(num_cpus=2, include_dashboard=False)
    candidate = Candidate(
        name="scored",
        architecture=arguments.architecture,
        learning_rate=arguments.learning_rate,
    )
    config = ScoreConfig(scores=SCORED)
    report: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.logs}
    for name in arguments.logs:
        for seed in arguments.seeds:
            begin_s = time.perf_counter()
            settings = replace(LOGS[name], num_rows=arguments.rows, seed=seed)
            with tempfile.TemporaryDirectory(dir=arguments.folder) as name_of_folder:
                folder = Path(name_of_folder)
                flipped = flipped_log(settings, folder)
                found = detection(flipped, candidate, arguments.checkpoints, config, folder)
            report[name].append(found)
            seconds = time.perf_counter() - begin_s
            line = {"log": name, "seed": seed, "seconds": round(seconds, 1), "auc": found}
            print(json.dumps(line), file=sys.stderr, flush=True)
    print_table(report, Console())
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
