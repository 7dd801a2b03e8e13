"""What a search has found so far, as a file that a killed search goes on from.

    OUT/trials.jsonl    a line a candidate, appended as it is finished

A line belongs to a search by its `key`: a hash of all that its runs depend on. Lines of other
searches in the same file are left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diet_ray.config import from_mapping, to_mapping
from diet_ray.documents import parse_json
from diet_ray.errors import ConfigError, DataError, OutputError
from diet_ray.models.catalogue import Candidate
from diet_ray.search import results
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import RunResult
from diet_ray.training.config import Rates

FORMAT = 2
"""Of the keys; raised whenever what a distilled run computes changes."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A candidate's runs."""

    candidate: Candidate
    runs: tuple[RunResult, ...]
    """One a seed, in the order of the seeds; empty if the candidate failed."""
    num_reports: int
    """How often it was judged; below the configured number if a scheduler stopped it early."""
    error: str | None = None
    schedule: tuple[Rates, ...] = ()
    """Rates that its runs came to on the way, where a search has changed them."""

    @property
    def trained(self) -> Candidate:
        """The candidate at the rates that its runs went through: what full training confirms."""
        return replace(self.candidate, schedule=self.schedule or self.candidate.schedule)

    @property
    def mean_auc(self) -> float | None:
        """Mean over seeds of the AUC on the ranking slice."""
        return sum(r.evaluation.auc for r in self.runs) / len(self.runs) if self.runs else None


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What a line must hold to be taken for a trial."""

    runs: tuple[RunResult, ...]
    num_reports: int
    schedule: tuple[Rates, ...] = ()


class Records:
    """The trials of one search, in memory and, if there is a folder, on disk.

    settings: what the runs depend on beside the rows and their candidate. Raises `OutputError` if
    the file can't be read or written.
    """

    def __init__(
        self, out: str | Path | None, rows: DistilledRows, settings: Mapping[str, Any]
    ) -> None:
        self._file = None if out is None else Path(out) / "trials.jsonl"
        self._about = {
            "format": FORMAT,
            "rows": digest(rows),
            "recipe": to_mapping(rows.recipe),
            **settings,
        }
        self._lines: dict[str, dict[str, Any]] = {}
        if self._file is not None:
            self._open(self._file)

    def _open(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a+b") as stream:
                stream.seek(0)
                content = stream.read()
                if content and not content.endswith(b"\n"):
                    # A line that a kill cut off; the next one shall not be joined to it.
                    stream.write(b"\n")
        except OSError as e:
            raise OutputError(f"{file}: can't be written: {e.strerror or e}") from None
        for line in content.splitlines():
            with contextlib.suppress(DataError):
                found = parse_json(line, str(file), DataError)
                self._lines[str(found.get("key"))] = found

    def key(self, candidate: Candidate) -> str:
        content = json.dumps({**self._about, "candidate": candidate.identity}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def known(self, candidate: Candidate) -> TrialResult | None:
        """What is on record of a candidate that finished; one that failed is tried again."""
        line = self._lines.get(self.key(candidate))
        if line is None or line.get("error", "") is not None:
            return None
        try:
            own = {f.name: line[f.name] for f in fields(_Kept) if f.name in line}
            kept = from_mapping(_Kept, own, "trial")
        except ConfigError:
            return None
        runs = tuple(replace(run, name=candidate.name) for run in kept.runs)
        return TrialResult(
            candidate=candidate, runs=runs, num_reports=kept.num_reports, schedule=kept.schedule
        )

    def finished(self) -> list[TrialResult]:
        """All of this search that is on record, but for what failed."""
        found = []
        for key, line in self._lines.items():
            try:
                candidate = from_mapping(Candidate, line.get("candidate", {}), "trials.jsonl")
            except ConfigError:
                continue
            trial = self.known(candidate) if self.key(candidate) == key else None
            if trial is not None:
                found.append(trial)
        return found

    def seconds(self, candidates: Sequence[Candidate]) -> float:
        """How long searching had taken when the last of these was finished."""
        lines = [self._lines.get(self.key(c), {}) for c in candidates]
        return max((_seconds(line.get("search_seconds")) for line in lines), default=0.0)

    def add(self, trial: TrialResult, search_seconds: float) -> None:
        """search_seconds: since the search began, earlier calls included."""
        key = self.key(trial.candidate)
        line = {
            "key": key,
            "candidate": to_mapping(trial.candidate),
            "num_reports": trial.num_reports,
            "schedule": [to_mapping(rates) for rates in trial.schedule],
            "error": trial.error,
            "runs": [results.to_json(r) for r in trial.runs],
            "search_seconds": search_seconds,
        }
        self._lines[key] = line
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def _seconds(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e12 else 0.0


def digest(rows: DistilledRows) -> str:
    """Hash of the rows that are trained on and those that are judged on."""
    found = hashlib.sha256()
    for batch in (rows.train.batch, rows.evaluation.batch):
        for tensor in (batch.categorical, batch.numeric, batch.sequence, batch.label):
            _add(found, tensor)
    _add(found, rows.train.target)
    _add(found, rows.train.weight)
    found.update(f"{rows.evaluation.num_ranking} {rows.features}".encode())
    return found.hexdigest()


def _add(found: Any, tensor: Tensor) -> None:
    found.update(str(tuple(tensor.shape)).encode())
    found.update(tensor.detach().cpu().contiguous().numpy().data)
