"""The command line, `diet`. Each command is a thin shell around one function of the packages."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from diet_ray.commands.consistency import consistency
from diet_ray.commands.demo import demo
from diet_ray.commands.distill import distill
from diet_ray.commands.doctor import doctor
from diet_ray.commands.export import export
from diet_ray.commands.prepare import prepare
from diet_ray.commands.report import report
from diet_ray.commands.rollback import rollback
from diet_ray.commands.score import score
from diet_ray.commands.search import search
from diet_ray.commands.show import show
from diet_ray.commands.status import status
from diet_ray.commands.synth import synth
from diet_ray.commands.train import train
from diet_ray.commands.update import update
from diet_ray.commands.verify import verify
from diet_ray.errors import DietError
from diet_ray.stopping import EXIT_CODE, leave_on_sigterm, was_told_to_stop

app = typer.Typer(
    name="diet",
    help="Distil a click log into 1-2 % of its rows, and search architectures on that.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

for command in (
    demo,
    prepare,
    doctor,
    distill,
    update,
    status,
    show,
    search,
    consistency,
    report,
    score,
    train,
    export,
    rollback,
    verify,
    synth,
):
    app.command()(command)


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
