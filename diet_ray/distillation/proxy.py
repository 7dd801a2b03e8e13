"""The proxies: models trained along the stream, once over every row, but for rows held out.

They give soft labels. Different families err on different rows, so the mean of their logits is a
better teacher than any one of them, and none decides alone what a candidate can learn. A row that
may become a slot is held out: no proxy ever trains on it, so that its soft label can't hold its own
observed label, however often the proxies are trained on.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch
from torch import Tensor

from diet_ray.data.batch import Batch, FeatureSpec
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, build
from diet_ray.models.growth import grow
from diet_ray.training.loop import fit, predict
from diet_ray.training.optimizer import ClickOptimizer

_MODEL, _OPTIMIZER = "model.", "optimizer."


class Stopped(Exception):
    """Training was told to end."""


class Proxy:
    """Model and optimiser of one proxy; grows with the vocabularies."""

    def __init__(
        self, candidate: Candidate, features: FeatureSpec, seed: int, device: str = "cpu"
    ) -> None:
        self.candidate = candidate
        self.seed = seed
        self.device = device
        self.model: Recommender = build(candidate, features, seed).to(device)
        self.optimizer = ClickOptimizer(self.model, candidate.optimizer)

    def grow(self, features: FeatureSpec) -> None:
        """Makes room for ids that a stage admits; what is known stays as it is."""
        if features == self.model.features:
            return
        self.model = grow(self.model, features, self.seed)
        self.optimizer = self.optimizer.grow(self.model)

    def train(self, batches: Iterable[Batch], stopped: threading.Event | None = None) -> Tensor:
        """Trains once over the rows, in order; the logits (rows,) predicted before, on the CPU.

        Raises `Stopped` at the first step after `stopped` is set.
        """
        honest: list[Tensor] = []

        def keep(_: Batch, logit: Tensor) -> None:
            if stopped is not None and stopped.is_set():
                raise Stopped
            honest.append(logit)

        fit(self.model, batches, self.optimizer, self.candidate.batch_size, on_step=keep)
        return torch.cat(honest).cpu() if honest else torch.empty(0)

    def predict(self, batch: Batch) -> Tensor:
        """Logits (B,) on the CPU."""
        return predict(self.model, batch.to(self.device)).cpu()

    def snapshot(self) -> Recommender:
        """A frozen copy of the model as it is now."""
        return copy.deepcopy(self.model).requires_grad_(False)

    def weights(self) -> dict[str, Tensor]:
        """CPU copies of the model's weights, as scorers load them."""
        return {k: v.detach().to("cpu", copy=True) for k, v in self.model.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """All that continuing bit for bit needs."""
        state = {_MODEL + k: v for k, v in self.weights().items()}
        optimizer = self.optimizer.state_dict()
        return state | {_OPTIMIZER + k: v.cpu() for k, v in optimizer.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`, for a proxy of the same features."""
        model = {k.removeprefix(_MODEL): v for k, v in state.items() if k.startswith(_MODEL)}
        optimizer = {
            k.removeprefix(_OPTIMIZER): v for k, v in state.items() if k.startswith(_OPTIMIZER)
        }
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict({k: v.to(self.device) for k, v in optimizer.items()})


class Proxies:
    """All proxies of a run. The first one leads: influence is scored under its weights."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        features: FeatureSpec,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.all = [Proxy(c, features, seed + i, device) for i, c in enumerate(candidates)]

    @property
    def lead(self) -> Proxy:
        return self.all[0]

    def grow(self, features: FeatureSpec) -> None:
        """Makes room for ids that a stage admits."""
        for proxy in self.all:
            proxy.grow(features)

    def train_stage(
        self,
        stage_rows: Callable[[], Iterable[Batch]],
        held_out: Tensor,
        on_rows: Callable[[Batch], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Trains every proxy once over a stage's rows, in order, but for those held out.

        Proxies don't see each other, so on CPUs they train side by side, one thread each.

        stage_rows gives the stage's batches anew at each call, held_out (rows of the stage,) marks
        rows to leave out, `on_rows` sees every batch once, in one of the threads. Returns the mean
        of the logits predicted before training and the labels of the rows trained on,
        (rows trained on,) each.
        """
        labels: list[Tensor] = []
        stopped = threading.Event()

        def train(proxy: Proxy) -> Tensor:
            return proxy.train(kept(proxy is self.lead), stopped)

        def kept(first: bool) -> Iterator[Batch]:
            row = 0
            for batch in stage_rows():
                if first and on_rows is not None:
                    on_rows(batch)
                out = held_out[row : row + len(batch)].to(batch.label.device)
                row += len(batch)
                trained = batch[~out] if bool(out.any()) else batch
                if first:
                    labels.append(trained.label.cpu())
                yield trained

        on_cpu = all(proxy.device == "cpu" for proxy in self.all)
        num_threads = min(len(self.all), os.cpu_count() or 1) if on_cpu else 1
        num_inner = torch.get_num_threads()
        with ThreadPoolExecutor(
            num_threads,
            # Bits depend on it, and a thread begins with a number of its own.
            initializer=lambda: torch.set_num_threads(num_inner),
        ) as threads:
            running = [threads.submit(train, proxy) for proxy in self.all]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
                for each in done:
                    each.result()
            except BaseException:
                stopped.set()
                raise
        logits = torch.stack([each.result() for each in running])
        return logits.mean(dim=0), torch.cat(labels)

    def predict(self, batch: Batch) -> Tensor:
        """Mean of all proxies' logits (B,), on the CPU."""
        return torch.stack([proxy.predict(batch) for proxy in self.all]).mean(dim=0)

    def state(self) -> dict[str, Tensor]:
        """All that continuing bit for bit needs."""
        return {f"{i}.{k}": v for i, p in enumerate(self.all) for k, v in p.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        for i, proxy in enumerate(self.all):
            prefix = f"{i}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            proxy.load_state(own)
