"""`diet train`: one candidate on the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diet_ray.commands.candidates import named_candidate, read_candidates
from diet_ray.commands.options import Address, Candidates, EvaluationRows
from diet_ray.errors import ConfigError


def train(
    path: Annotated[
        Path, typer.Argument(help="A run, or a prepared log: the folder that holds log.json.")
    ],
    candidate: Annotated[
        str | None,
        typer.Option(help="Which one to train; may be left out if --candidates holds but one."),
    ] = None,
    candidates: Candidates = None,
    seed: Annotated[int, typer.Option(help="Of first weights and dropout.", min=0)] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the training rows.", min=1)] = 1,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Rows of a mini-batch, over all workers; default: the candidate's."),
    ] = None,
    validation_share: Annotated[
        float,
        typer.Option(
            help="Hold out the last part of the training rows, by time; after each epoch it is "
            "judged, and the best epoch's weights are kept."
        ),
    ] = 0.0,
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs without a better AUC there.", min=1)
    ] = 1,
    checkpoint_rows: Annotated[
        int, typer.Option(help="Rows between two checkpoints.", min=1)
    ] = 1_000_000,
    evaluation_rows: EvaluationRows = 20_000,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that share every mini-batch, a CPU or a GPU each. More of them change "
            "the result by rounding alone.",
            min=1,
        ),
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Results; default: RUN/train/CANDIDATE. All nodes see it.")
    ] = None,
    address: Address = None,
) -> None:
    """Train one candidate on the whole log, in time order, and judge it on the test tail.

    Writes train.json, and model.safetensors, which `diet score --checkpoint` takes. A run that was
    killed goes on from its last checkpoint when called again, to the same bits; so does one whose
    workers die, by itself.
    """
    from diet_ray.cluster import connect
    from diet_ray.config import from_mapping
    from diet_ray.data.log import MANIFEST, PreparedLog
    from diet_ray.search.workers import WorkersConfig
    from diet_ray.training.config import TrainConfig
    from diet_ray.training.train_run import print_trained, train_parallel

    known = read_candidates(candidates)
    if candidate is None and len(known) > 1:
        raise ConfigError(f"--candidate: name one of {', '.join(c.name for c in known)}")
    chosen = known[0] if candidate is None else named_candidate(candidate, known)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "validation_share": validation_share,
        "patience": patience,
        "checkpoint_every_rows": checkpoint_rows,
        "evaluation_rows": evaluation_rows,
    }
    config = from_mapping(TrainConfig, settings, "train")
    is_log = (path / MANIFEST).is_file()
    if is_log and out is None:
        raise ConfigError("--out: say where the results go; a log's own folder is not the place")
    log = PreparedLog.open(str(path if is_log else path / "log"))
    target = out or path / "train" / chosen.name
    connect(address)
    result = train_parallel(
        chosen, log, seed, config, target, WorkersConfig(num_workers=workers), Console(stderr=True)
    )
    print_trained(result, target, Console())
