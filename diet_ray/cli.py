"""The command line, `diet`. Each command is a thin shell around one function of the packages."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from diet_ray.commands.doctor import doctor
from diet_ray.commands.export import export
from diet_ray.commands.prepare import prepare
from diet_ray.commands.report import report
from diet_ray.commands.rollback import rollback
from diet_ray.commands.status import status
from diet_ray.commands.verify import verify
from diet_ray.errors import ConfigError, DietError
from diet_ray.stopping import EXIT_CODE, leave_on_sigterm, was_told_to_stop

app = typer.Typer(
    name="diet",
    help="Distil a click log into 1-2 % of its rows, and search architectures on that.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

app.command()(verify)

Run = Annotated[Path, typer.Argument(help="Folder of a run, as `diet distill --out` made it.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join; without it RAY_ADDRESS, or a local one is started."),
]
Seeds = Annotated[
    int,
    typer.Option(
        help="Independent trainings of every candidate; from two on, their noise is estimated.",
        min=1,
    ),
]
Candidates = Annotated[
    Path | None,
    typer.Option(
        "--candidates",
        help="YAML file with `candidates:` (list, grid or random; for `diet search` also optuna); "
        "default: the whole catalogue.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Training processes; default: one for each CPU.", min=1)
]
EvaluationRows = Annotated[
    int, typer.Option(help="Rows of the test tail that every run is judged on.", min=4)
]


@app.command()
def distill(
    config: Annotated[Path, typer.Option(help="YAML file: source, schema, budget and settings.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default: runs/NAME for NAME/distill.yaml."),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            help="In place of the configuration's budget: `low`, `medium` or `high` keeps 1/200, "
            "1/100 or 1/15 of the rows. More rows rank better and cost each candidate more."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what it would take; starts and writes nothing."),
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of the machines, for the cost that --dry-run says.")
    ] = None,
    address: Address = None,
) -> None:
    """Distil a whole log. A run that was killed goes on where it stood when called again."""
    from dataclasses import replace

    from diet_ray.cluster import connect
    from diet_ray.commands.dry_run import print_dry_run
    from diet_ray.config import from_mapping
    from diet_ray.distillation import run
    from diet_ray.distillation.budget import BudgetConfig
    from diet_ray.distillation.config import load_distill_config

    settings = load_distill_config(config)
    if effort is not None:
        kept = {"boundary_factor": settings.budget.boundary_factor}
        budget = from_mapping(BudgetConfig, {"effort": effort} | kept, "--effort")
        settings = replace(settings, budget=budget)
    if dry_run:
        print_dry_run(settings, price_per_hour, Console())
        return
    connect(address)
    target = out or Path("runs") / config.parent.resolve().name
    _print_distilled(run.distill(settings, target), target)


@app.command()
def update(
    path: Run,
    log: Annotated[
        list[str] | None, typer.Option(help="New files, in time order; may be given repeatedly.")
    ] = None,
    sort: Annotated[bool, typer.Option(help="Sort the new rows by time first.")] = False,
    address: Address = None,
) -> None:
    """Add a new day to a run without reading history again.

    Without --log, finishes an update that was killed.
    """
    from dataclasses import replace

    from diet_ray.cluster import connect
    from diet_ray.distillation import run

    source = None
    if log:
        known = run.load_run_config(run.RunFolder(path)).source
        source = replace(known, paths=tuple(log), sort=sort, synthetic=None)
    connect(address)
    _print_distilled(run.update(path, source), path)


@app.command()
def search(
    path: Run,
    candidates: Candidates = None,
    anchors: Annotated[
        Path | None,
        typer.Option(
            help="Full-run AUCs that you have, to calibrate the recipe on: YAML, `anchors:` with "
            "a number or a list (one a seed) for three or more candidates; or a consistency.json."
        ),
    ] = None,
    seeds: Seeds = 2,
    scheduler: Annotated[
        str,
        typer.Option(
            help="`all` trains every candidate to its end, `asha` stops the weak, `pbt` lets "
            "those that differ in rates alone learn from one another."
        ),
    ] = "all",
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Then train the best on the full log as well.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many of the best `--confirm` trains.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Results; default: RUN/search.")] = None,
    evaluation_rows: EvaluationRows = 20_000,
    evaluation_error: Annotated[
        float | None,
        typer.Option(
            min=1e-5,
            help="Judge on as few test rows as keep the standard error of a difference of AUCs "
            "below this, say 0.001; the run's proxies tell how many.",
        ),
    ] = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Search architectures on a distilled dataset: trains every candidate on it and ranks them.

    `places` in its table are those that a candidate may hold once noise is allowed for. A search
    that was cut off goes on where it stood: what is on record in OUT isn't trained again.
    """
    from diet_ray.cluster import connect
    from diet_ray.config import from_mapping
    from diet_ray.search import comparison
    from diet_ray.search.anchors import load_anchors
    from diet_ray.search.proposals import Proposals
    from diet_ray.search.trials import SearchConfig
    from diet_ray.search.workers import WorkersConfig

    chosen = _candidates(candidates, searched=True)
    config = from_mapping(
        SearchConfig, {"seeds": list(range(seeds)), "scheduler": scheduler}, "--scheduler"
    )
    if anchors is not None and isinstance(chosen, Proposals):
        raise ConfigError("--anchors: takes listed candidates, not proposed ones")
    known = None if anchors is None else load_anchors(anchors, chosen)
    connect(address)
    comparison.search_run(
        path,
        chosen,
        config,
        WorkersConfig(num_workers=workers),
        out or path / "search",
        evaluation_rows,
        Console(),
        known,
        num_confirmed=top if confirm else 0,
        evaluation_error=evaluation_error,
    )


@app.command()
def consistency(
    path: Run,
    candidates: Candidates = None,
    seeds: Seeds = 2,
    out: Annotated[Path | None, typer.Option(help="Results; default: RUN/consistency.")] = None,
    evaluation_rows: EvaluationRows = 20_000,
    workers: Workers = None,
    baselines: Annotated[
        bool, typer.Option(help="Also run what a distilled dataset must beat.")
    ] = True,
    address: Address = None,
) -> None:
    """Check the distilled ranking against full-data training; writes consistency.json, a report."""
    from diet_ray.cluster import connect
    from diet_ray.search import comparison
    from diet_ray.search.baselines import BASELINES
    from diet_ray.search.consistency import ConsistencyConfig
    from diet_ray.search.workers import WorkersConfig

    chosen = _candidates(candidates)
    config = ConsistencyConfig(
        seeds=tuple(range(seeds)),
        evaluation_rows=evaluation_rows,
        workers=WorkersConfig(num_workers=workers),
        baselines=BASELINES if baselines else (),
    )
    connect(address)
    comparison.compare_run(path, chosen, config, out or path / "consistency", Console())


@app.command()
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
        int, typer.Option(help="Train along the log first, and keep so many checkpoints.", min=0)
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
    on_bad_shard: Annotated[
        str, typer.Option(help="`fail`, or `skip`: leave out and name what can't be read.")
    ] = "fail",
    scorers: Annotated[
        int | None, typer.Option(help="Scorers to begin with; default: all free CPUs or GPUs.")
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
        "on_bad_shard": on_bad_shard,
        "num_scorers": "auto" if scorers is None else scorers,
        "max_scorers": max_scorers,
    }
    config = from_mapping(ScoreConfig, settings, "score")
    chosen = None if candidate is None else _candidate(candidate, _candidates(candidates))
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


@app.command()
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

    known = _candidates(candidates)
    if candidate is None and len(known) > 1:
        raise ConfigError(f"--candidate: name one of {', '.join(c.name for c in known)}")
    chosen = known[0] if candidate is None else _candidate(candidate, known)
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


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A distilled dataset, or the run it belongs to.")],
    rows: Annotated[int, typer.Option(help="Slots to print, the heaviest first.", min=0)] = 10,
) -> None:
    """Say what a distilled dataset holds."""
    from diet_ray.memory.dataset import DistilledDataset

    folder = path / "distilled" if (path / "distilled").is_dir() else path
    dataset = DistilledDataset.load(folder)
    frame = dataset.to_pandas(decode=True)
    console = Console()
    console.print(
        f"{dataset.num_slots:,} slots for {dataset.manifest.num_rows_seen:,} rows "
        f"({dataset.row_fraction:.2%} of the rows, {dataset.byte_fraction:.2%} of the bytes), "
        f"{len(dataset.manifest.stages)} stages"
    )
    console.print(f"Recipe: {asdict(dataset.recipe)}")
    if rows:
        console.print(frame.nlargest(rows, "_weight").to_string(index=False))


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the Parquet files, one a day.")],
    rows: Annotated[int, typer.Option(help="Rows in all.", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Same seed, same log.", min=0)] = 0,
) -> None:
    """Write a synthetic click log with drift, new items, taste, crosses and noise."""
    from diet_ray.data.sources.synthetic import SyntheticConfig, write_synthetic

    write_synthetic(SyntheticConfig(num_rows=rows, seed=seed), out)
    Console().print(f"{rows:,} rows in {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; an earlier demo is replaced.")] = (
        Path("runs/demo")
    ),
) -> None:
    """Distil the shipped KuaiRand sample, search on it, compare with full training, report."""
    import shutil

    from diet_ray.distillation.run import RunFolder

    example = Path(__file__).parent.parent / "examples" / "kuairand"
    if not example.is_dir():
        raise ConfigError(f"{example}: no such folder: run the demo from a clone of the project")
    if RunFolder(out).config.exists():
        shutil.rmtree(out)
    distill(example / "distill.yaml", out)
    consistency(out, example / "candidates.yaml", evaluation_rows=4_000)


app.command()(prepare)
app.command()(report)
app.command()(export)
app.command()(doctor)
app.command()(status)
app.command()(rollback)


def _candidates(path: Path | None, *, searched: bool = False) -> Any:
    """Candidates, or with `searched` what proposes them."""
    from diet_ray.config import load_yaml
    from diet_ray.models.catalogue import default_candidates
    from diet_ray.search.space import candidates_from

    if path is None:
        return default_candidates()
    content = load_yaml(path)
    if set(content) != {"candidates"}:
        raise ConfigError(f"{path}: expected the key `candidates` alone, found {sorted(content)}")
    described = content["candidates"]
    if searched and isinstance(described, dict) and set(described) == {"optuna"}:
        from diet_ray.search.proposals import Proposals

        return Proposals.of(described["optuna"], f"{path}: optuna")
    return candidates_from(described, str(path))


def _candidate(name: str, known: Any) -> Any:
    import difflib

    found = next((c for c in known if c.name == name), None)
    if found is None:
        names = [c.name for c in known]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names)}"
        raise ConfigError(f"--candidate: no candidate `{name}`; {hint}")
    return found


def _print_distilled(dataset: Any, path: Path) -> None:
    Console().print(
        f"{dataset.num_slots:,} slots ({dataset.row_fraction:.2%} of the rows, "
        f"{dataset.byte_fraction:.2%} of the bytes) in {path / 'distilled'}",
        soft_wrap=True,
    )


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings of this package as one line, without the source line that gave them."""
    show = warnings.showwarning

    def show_plainly(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any
    ) -> None:
        if Path(filename).is_relative_to(Path(__file__).parent):
            print(f"diet: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            show(message, category, filename, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show_plainly
        yield


def _find_modules_here() -> None:
    """A `module:Class` of one's own may be a file in the working folder, and is one for workers of
    a local cluster as well. A job's `--working-dir` does the same."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, known), here])


def _printable(text: str) -> str:
    """On one line, and without what a terminal would take for a command."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )


def main(command: str | None = None) -> None:
    """Runs the command line; an error that a person can mend is one line and exit code 2.

    SIGTERM, as `ray job stop` sends it, unwinds, so that what is open is closed, and gives 143.
    """
    leave_on_sigterm()
    _find_modules_here()
    arguments = sys.argv[1:] if command is None else [command, *sys.argv[1:]]
    try:
        with _plain_warnings():
            app(arguments, prog_name="diet")
    except BaseException as e:
        # What unwinding comes upon isn't why; an exit out of one of Ray's calls has code 1.
        if was_told_to_stop():
            raise SystemExit(EXIT_CODE) from None
        if not isinstance(e, DietError):
            raise
        print(f"diet: {_printable(str(e))}", file=sys.stderr)
        raise SystemExit(e.exit_code) from None
