"""Scores of whole batches as one compiled program, for logs long enough to repay compiling.

The compiler would not follow hooks and a backward pass within a forward pass, so it is given the
scores as a list of tensor operations (`diet_ray.recording`) and fuses those. It needs a C++
compiler on a CPU, Triton on a GPU, and from ten seconds to a minute for each process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from diet_ray.data.batch import Batch
from diet_ray.documents import cut
from diet_ray.recording import record
from diet_ray.scoring.config import RowScore

Scores = dict[RowScore, Tensor]

_TOLERANCE = 1e-3
_LOOSE_TOLERANCE = 5e-2
"""Of the largest score. At lower precision, intermediate results are rounded in other places."""


class CompiledScorer:
    """Gives the scores of `score`, compiled for batches of `num_rows`; others go uncompiled.

    Where that can't be done, it warns with the reason once and goes on uncompiled.
    """

    def __init__(
        self, score: Callable[[Batch], Mapping[RowScore, Tensor]], num_rows: int, *, exact: bool
    ) -> None:
        """`exact`: whether `score` computes at the weights' own precision."""
        self._score = score
        self._num_rows = num_rows
        self._tolerance = _TOLERANCE if exact else _LOOSE_TOLERANCE
        self._program: Callable[[Batch], Scores] | None = None
        self._tried = False

    def __call__(self, batch: Batch) -> Scores:
        if len(batch) != self._num_rows:
            return dict(self._score(batch))
        if not self._tried:
            self._tried = True
            try:
                self._program = self._compiled(batch)
            # Compilers fail in ways of their own, and none of them is a reason not to score.
            except Exception as e:
                warnings.warn(f"scores aren't compiled: {cut(str(e))}", stacklevel=2)
        return dict(self._score(batch)) if self._program is None else self._program(batch)

    def _compiled(self, batch: Batch) -> Callable[[Batch], Scores]:
        # What is found out once about a model, by asking for values, is found out here.
        names = tuple(self._score(batch))

        def function(*fields: Tensor) -> tuple[Tensor, ...]:
            return tuple(self._score(Batch(*fields)).values())

        program = torch.compile(record(function, batch.tensors), fullgraph=True, dynamic=False)

        @torch.no_grad()
        def run(rows: Batch) -> Scores:
            return dict(zip(names, program(*rows.tensors), strict=True))

        # Not of the rows recorded: a value that was taken for a constant would pass.
        other = batch[torch.arange(len(batch) - 1, -1, -1, device=batch.label.device)]
        self._check(run(other), self._score(other))
        return run

    def _check(self, found: Scores, expected: Mapping[RowScore, Tensor]) -> None:
        for name, values in expected.items():
            bound = self._tolerance * float(values.abs().max())
            if not bool((found[name] - values).abs().max() <= bound):
                raise RuntimeError(f"compiled, `{name}` comes out different")
