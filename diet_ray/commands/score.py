"""`diet score`: the influence of every row of a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diet_ray.commands.candidates import named_candidate, read_candidates
from diet_ray.commands.options import Address


def score(
    path: Annotated[
        Path,
        typer.Argument(help="A run, or a configuration as `diet distill` takes it: any log."),
    ],
    scores: Annotated[
        str,
        typer.Option(
            help="Comma-separated: loss, error, last_layer, embedding, gradient, full, "
            "self_influence, adam_self_influence, validation, adam_validation, leverage, features."
        ),
    ] = "loss,full,validation,leverage",
    out: Annotated[
        Path | None,
        typer.Option(help="Results; default: RUN/score, or runs/NAME-score for NAME/distill.yaml."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights to score under: safetensors or a state dict; several of one training, "
            "in its order. Default: the run's leading proxy."
        ),
    ] = None,
    train: Annotated[
        int,
        typer.Option(
            help="Train along the log first, and keep so many checkpoints; at least "
            "1 where PATH is a configuration and there is no --checkpoint.",
            min=0,
        ),
    ] = 0,
    candidates: Annotated[
        Path | None, typer.Option(help="YAML file that says what --candidate is.")
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(help="Architecture or candidate to train, or of a bare state dict."),
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of each list of the summary.", min=1)] = 100,
    validation_rows: Annotated[
        int, typer.Option(help="Rows of the test tail that `validation` is influence on.", min=1)
    ] = 8_192,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16: of the passes; sums are float32.")
    ] = "float32",
    compile_scores: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the scores first: worth its seconds on a long log."
        ),
    ] = False,
    on_bad_shard: Annotated[
        str, typer.Option(help="`fail`, or `skip`: leave out and name what can't be read.")
    ] = "fail",
    scorers: Annotated[
        int | None,
        typer.Option(
            help="Scorers to begin with; default: one for each free CPU but one, four "
            "for each free GPU."
        ),
    ] = None,
    max_scorers: Annotated[int | None, typer.Option(help="Scorers to grow to.")] = None,
    address: Address = None,
) -> None:
    """Score every row of a log by its influence: which rows teach a model, and which mislead it.

    Writes Parquet, a row for each row of the log in its order, by stage; and lists the most
    helpful, harmful, influential and redundant rows. A killed run goes on when called again.
    """
    from diet_ray.cluster import connect
    from diet_ray.config import from_mapping
    from diet_ray.scoring.config import ScoreConfig
    from diet_ray.scoring.run import score as run_score
    from diet_ray.scoring.tables import print_scored

    settings = {
        "scores": [s.strip() for s in scores.split(",") if s.strip()],
        "validation_rows": validation_rows,
        "top": top,
        "precision": precision,
        "compile": compile_scores,
        "on_bad_shard": on_bad_shard,
        "num_scorers": "auto" if scorers is None else scorers,
        "max_scorers": max_scorers,
    }
    config = from_mapping(ScoreConfig, settings, "score")
    chosen = None if candidate is None else named_candidate(candidate, read_candidates(candidates))
    target = out or (
        Path("runs") / f"{path.resolve().parent.name}-score" if path.is_file() else path / "score"
    )
    connect(address)
    scored = run_score(
        path,
        config,
        target,
        checkpoints=tuple(checkpoint or ()),
        candidate=chosen,
        num_trained=train,
    )
    print_scored(scored, Console())
