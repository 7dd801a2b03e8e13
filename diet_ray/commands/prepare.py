"""`diet prepare`: a public log's raw files, or a table, as a log that `diet distill` reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from diet_ray.errors import ConfigError

if TYPE_CHECKING:
    from diet_ray.data.raw.tasks import Tasks
    from diet_ray.progress import Progress


def prepare(
    source: Annotated[
        str | None,
        typer.Argument(
            help="kuairand, taobao-behavior, taobao-ads, tmall, criteo, avazu, movielens, amazon, "
            "or `auto` to find out; csv, parquet, delta or iceberg with --schema."
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Argument(help="Folder, file or glob of the raw files, unpacked.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(help="Folder to make.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Which of the log's labels; see --about.")
    ] = None,
    negatives: Annotated[
        int | None,
        typer.Option(
            help="For logs of positive events alone: items to draw for each event, among those "
            "that occurred before it.",
            min=1,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the negatives.", min=0)] = 0,
    schema: Annotated[Path | None, typer.Option(help="What a table's columns mean.")] = None,
    delimiter: Annotated[str, typer.Option(help="Of a CSV table.")] = ",",
    infer: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Propose schema.yaml and distill.yaml for a CSV or Parquet file instead; the "
            "folder for them may follow.",
        ),
    ] = None,
    about: Annotated[
        bool, typer.Option("--about", help="Print what is known about SOURCE, and stop.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes; default: one for each CPU.", min=1)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Work as tasks of this Ray cluster, which must see PATH and OUT; without it that "
            "of RAY_ADDRESS, else processes of this machine."
        ),
    ] = None,
) -> None:
    """Turn raw files into a schema and Parquet by day, in time order, ready for `diet distill`.

    Files are recognised by what they begin with, not by their names, and read as a stream. OUT
    holds schema.yaml, distill.yaml, log/*.parquet and a report of what was dropped and why.
    """
    console = Console(soft_wrap=True, highlight=False)
    if infer is not None:
        _infer(infer, Path(source) if source else Path(), console)
        return
    if about:
        from diet_ray.data.sources.public.known import adapter

        console.print(adapter(source or "").about, markup=False)
        return
    if source is None or path is None or out is None:
        raise ConfigError("say SOURCE, PATH and OUT, e.g. `diet prepare kuairand data/ log/`")
    _prepare(source, path, out, label, negatives, seed, schema, delimiter, workers, address)


def _infer(file: str, out: Path, console: Console) -> None:
    from diet_ray.data.infer.write import write_proposal

    written, configuration = write_proposal(file, out)
    console.print(written.read_text(encoding="utf-8"), markup=False)
    console.print(f"Check {written}, then: diet distill --config {configuration}", markup=False)


def _prepare(
    source: str,
    path: str,
    out: Path,
    label: str | None,
    negatives: int | None,
    seed: int,
    schema: Path | None,
    delimiter: str,
    workers: int | None,
    address: str | None,
) -> None:
    from diet_ray.data.raw.convert import convert
    from diet_ray.data.raw.log import Options, RawLog
    from diet_ray.data.schema import Schema
    from diet_ray.data.sources.public import known
    from diet_ray.data.sources.public.tables import TABLES, open_table

    console = Console(soft_wrap=True, highlight=False)
    options = Options(
        label=label,
        negatives=negatives,
        seed=seed,
        schema=None if schema is None else Schema.load(schema),
    )
    opened: Callable[[Path], RawLog]
    if source in TABLES:
        description = f"Prepared from {path}."

        def opened(scratch: Path) -> RawLog:
            return open_table(source, path, options, scratch, delimiter)

    else:
        chosen = None if source == "auto" else known.adapter(source, ("auto", *TABLES))
        starts = known.starts_of(path)
        chosen = chosen or known.recognise(starts)
        files, remarks = known.sort_files(chosen, starts)
        for remark in remarks:
            console.print(remark, markup=False)
        description = chosen.about

        def opened(scratch: Path) -> RawLog:
            return chosen.open(files, options, scratch)

    with _tasks(workers, address) as tasks, _progress(console) as on_progress:
        made = convert(opened, tasks, out, about=description, on_progress=on_progress)
    for why, count in made.dropped.items():
        console.print(f"Dropped {count:,} {why}")
    console.print(
        f"{made.num_rows:,} rows from {made.num_read:,}, "
        f"{made.num_positive / made.num_rows:.2%} of "
        f"them positive, the last {made.num_test_rows:,} for the test, in {len(made.files)} files. "
        f"Next: diet distill --config {out / 'distill.yaml'}",
        markup=False,
    )


@contextmanager
def _tasks(workers: int | None, address: str | None) -> Iterator[Tasks]:
    from diet_ray.data.raw.tasks import RayTasks, local_tasks

    if not (address or os.environ.get("RAY_ADDRESS")):
        with local_tasks(workers) as tasks:
            yield tasks
        return
    from diet_ray.cluster import connect

    connect(address)
    yield RayTasks()


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Shows each pass as a bar of its own."""
    from diet_ray.progress import Progress

    shown: dict[str, Progress] = {}

    def show(what: str, num_done: int, num_tasks: int) -> None:
        if what not in shown:
            for earlier in shown.values():
                earlier.__exit__(None, None, None)
            shown[what] = Progress(num_tasks, what, unit="parts").__enter__()
        shown[what].advance(1)

    try:
        yield show
    finally:
        if shown:
            list(shown.values())[-1].__exit__(None, None, None)
