"""One training run spread over processes, each with a part of every mini-batch. No Ray here.

* A mini-batch is the one that a single process would train on; process k takes its k-th part,
  contiguous rows. All read the whole stream, so that nothing depends on who reads what.
* Every process holds the whole model and makes the same update: of the gradient of the whole
  mini-batch's mean loss. Dense gradients are summed over processes, in one buffer. Gradients at
  gathered embeddings are exchanged row by row, B · P · width numbers a step, whatever the size of
  the table; which table rows they belong to is known to all.
* Dropout draws the masks of the whole mini-batch, and takes those of its part.

So a step is a single process's up to rounding, and with one process it is that step, bit for bit.
A module of the user's own may draw from torch's generator, which is set before each step: then a
resumed run still draws what an unbroken one does, but other numbers than a single process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from diet_ray.data.batch import Batch
from diet_ray.data.log import PreparedLog, Shard, Stage
from diet_ray.distillation.proxy import Proxy
from diet_ray.errors import ClusterError, ConfigError, DataError
from diet_ray.models.base import Recommender
from diet_ray.models.catalogue import Candidate, fields_of
from diet_ray.models.layers import BatchPart, Dropout
from diet_ray.parquet import decoding
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.search.evaluation import Evaluation, EvaluationRows, evaluate
from diet_ray.storage import Folder
from diet_ray.training.checkpoints import Checkpoints, TrainState
from diet_ray.training.config import TrainConfig
from diet_ray.training.loop import STEPS_PER_POINT, predict, rebatch
from diet_ray.training.metrics import auc
from diet_ray.training.optimizer import ClickOptimizer
from diet_ray.training.rates import RateFollower

CHECKPOINTS, MODEL = "checkpoints", "model.safetensors"
_REPORT_EVERY_S = 0.5


class PeerLost(RuntimeError):
    """Another process of the run doesn't answer any more."""


def part_of(num_rows: int, rank: int, num_workers: int) -> slice:
    """Contiguous rows of process `rank`; parts differ by one row at most, the longer ones first."""
    size, longer = divmod(num_rows, num_workers)
    start = rank * size + min(rank, longer)
    return slice(start, start + size + int(rank < longer))


class Peers:
    """The processes of a run, this one being `rank`; from two on, torch's process group joins them.

    All must make the same calls in the same order. Raises `PeerLost` if another one is gone.
    """

    def __init__(self, rank: int = 0, num_workers: int = 1) -> None:
        self.rank, self.num_workers = rank, num_workers

    def part(self, num_rows: int) -> slice:
        """This process's rows of `num_rows`."""
        return part_of(num_rows, self.rank, self.num_workers)

    def sum(self, values: Tensor) -> None:
        """Replaces values (N,) by their sum over processes, the same bits in all of them."""
        if self.num_workers > 1:
            try:
                dist.all_reduce(values)
            except RuntimeError as e:
                raise PeerLost(str(e)) from e

    def gather(self, own: Tensor, num_rows: int) -> Tensor:
        """All rows (num_rows, …) in order, of which `own` are this process's part."""
        if self.num_workers == 1:
            return own
        sizes = [
            len(range(num_rows)[part_of(num_rows, k, self.num_workers)])
            for k in range(self.num_workers)
        ]
        # Buffers of all processes must have one size.
        padded = own.new_zeros(sizes[0], *own.shape[1:])
        padded[: len(own)] = own
        found = self._all(padded)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    def agree(self, values: Tensor) -> bool:
        """Whether values (N,) are the same in all processes."""
        return self.num_workers == 1 or all(bool((v == values).all()) for v in self._all(values))

    def of_first(self, text: str | None) -> str | None:
        """The text that process 0 gave."""
        texts = [text]
        if self.num_workers > 1:
            try:
                dist.broadcast_object_list(texts)
            except RuntimeError as e:
                raise PeerLost(str(e)) from e
        return texts[0]

    def _all(self, values: Tensor) -> list[Tensor]:
        found = [torch.empty_like(values) for _ in range(self.num_workers)]
        try:
            dist.all_gather(found, values)
        except RuntimeError as e:
            raise PeerLost(str(e)) from e
        return found


class SharedStep:
    """Training steps of one model, of which each process computes its part."""

    def __init__(self, model: Recommender, optimizer: ClickOptimizer, peers: Peers) -> None:
        """Raises `ConfigError` for a model that can't be split by rows."""
        self.model, self.optimizer, self.peers = model, optimizer, peers
        if peers.num_workers > 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
            raise ConfigError(
                "batch normalisation mixes the rows of a mini-batch: train with one worker"
            )
        table = model.table.weight
        self._dense = [
            p for p in model.parameters() if p is not table and p.requires_grad and p.numel()
        ]
        self._dropouts = [m for m in model.modules() if isinstance(m, Dropout)]

    def __call__(self, batch: Batch) -> Tensor:
        """One update on a whole mini-batch of B rows; its mean loss () before, detached."""
        part = self.peers.part(len(batch))
        # A process without rows goes through one that doesn't count: masks and layers stay in step.
        is_empty = part.start == part.stop
        own = slice(0, 1) if is_empty else part
        rows = self.model.table.rows(batch)
        with torch.no_grad():
            gathered = self.model.table.gather(rows[own])
        gathered.requires_grad_()
        for dropout in self._dropouts:
            dropout.part = None if self.peers.num_workers == 1 else BatchPart(own, len(batch))
        logit = self.model.head(gathered, batch[own]).logit
        label = batch.label[own].to(logit.dtype)
        loss = (torch.nn.functional.softplus(logit) - label * logit).sum() / len(batch)
        if is_empty:
            loss = loss * 0.0
        loss.backward()
        gradient = gathered.grad if gathered.grad is not None else torch.zeros_like(gathered)
        if is_empty:
            gradient = gradient[:0]
        total = self._sum_dense(loss.detach())
        self.optimizer.step(rows, self.peers.gather(gradient, len(batch)))
        return total

    def _sum_dense(self, loss: Tensor) -> Tensor:
        """Sums the dense gradients in place, and the loss () with them."""
        if self.peers.num_workers == 1:
            return loss
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._dense]
        flat = torch.cat([*(g.flatten() for g in grads), loss.view(1)])
        self.peers.sum(flat)
        *sums, total = flat.split([*(p.numel() for p in self._dense), 1])
        for p, summed in zip(self._dense, sums, strict=True):
            if p.grad is not None:
                p.grad = summed.view_as(p).to(p.dtype)
        return total.squeeze(0)


class LossCurve:
    """Mean loss over every `STEPS_PER_POINT` steps, gathered without waiting for the device."""

    def __init__(self, state: TrainState) -> None:
        self.num_rows = state.num_rows
        self._points = [(int(rows), torch.tensor(loss)) for rows, loss in state.points]
        self._losses = [torch.tensor(loss) for loss in state.losses]

    def add(self, num_rows: int, loss: Tensor) -> None:
        self.num_rows += num_rows
        self._losses.append(loss)
        if len(self._losses) == STEPS_PER_POINT:
            self._points.append((self.num_rows, self._mean()))
            self._losses = []

    def points(self, *, whole: bool) -> tuple[tuple[float, ...], ...]:
        """(rows so far, mean loss); with `whole` also for the steps since the last full point."""
        points = [*self._points]
        if whole and self._losses:
            points.append((self.num_rows, self._mean()))
        return tuple((rows, float(loss)) for rows, loss in points)

    def losses(self) -> tuple[float, ...]:
        """Of the steps since the last full point."""
        return tuple(float(loss) for loss in self._losses)

    def last(self) -> float | None:
        """The newest point's; before the first, that of the steps so far."""
        if self._points:
            return float(self._points[-1][1])
        return float(self._mean()) if self._losses else None

    def _mean(self) -> Tensor:
        # Those of before a resume are on the CPU.
        device = self._losses[-1].device
        return torch.stack([loss.to(device) for loss in self._losses]).mean()


def training_rows(log: PreparedLog, first: int, stop: int, device: str = "cpu") -> Iterator[Batch]:
    """Rows [first, stop) of the log's training part, in order; only shards with such rows are read.

    A batch is what a shard has of them.
    """
    begin = skipped = 0
    wanted: list[Stage] = []
    for stage in log.train_stages:
        shards: list[Shard] = []
        for shard in stage.shards:
            if max(first, begin) < min(stop, begin + shard.num_rows):
                if not wanted and not shards:
                    skipped = begin
                shards.append(shard)
            begin += shard.num_rows
        if shards:
            wanted.append(replace(stage, shards=tuple(shards)))
    row = skipped
    for batch in log.batches(wanted, device=device):
        yield batch[max(0, first - row) : stop - row]
        row += len(batch)


@dataclass(frozen=True, kw_only=True)
class TrainWork:
    """What every process of a run needs."""

    candidate: Candidate
    log: PreparedLog
    seed: int
    config: TrainConfig
    out: Path
    rows: EvaluationRows | None
    """None for a log without a test tail."""

    @property
    def num_validation_rows(self) -> int:
        return int(self.config.validation_share * self.log.num_train_rows)

    @property
    def num_train_rows(self) -> int:
        """Rows of an epoch."""
        return self.log.num_train_rows - self.num_validation_rows

    @property
    def batch_size(self) -> int:
        return self.config.batch_size or self.candidate.batch_size


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run ends with; its weights are in the file `MODEL`."""

    state: TrainState
    loss_curve: tuple[tuple[float, ...], ...]
    """(rows so far, mean loss before each of the last `STEPS_PER_POINT` steps)"""
    evaluation: Evaluation | None


class TrainPart:
    """One process's part of a run, from the last checkpoint to the end."""

    def __init__(
        self,
        work: TrainWork,
        peers: Peers,
        device: str = "cpu",
        on_rows: Callable[[int, float | None], None] | None = None,
    ) -> None:
        """`on_rows` gets rows trained on so far and the loss, now and then, in process 0 alone."""
        self.work, self.peers, self.device = work, peers, device
        self._on_rows = on_rows if peers.rank == 0 else None
        self._select = fields_of(work.candidate, work.log.features)
        self._proxy = Proxy(work.candidate, work.log.features, work.seed, device)
        self._proxy.model.train()
        self._follow = RateFollower(work.candidate, self._proxy.optimizer)
        self._step = SharedStep(self._proxy.model, self._proxy.optimizer, peers)
        self._checkpoints = Checkpoints(Folder.at(work.out) / CHECKPOINTS)
        self.state = self._restored()
        self._curve = LossCurve(self.state)
        self._begin_s = time.perf_counter() - self.state.seconds
        self._report_s = 0.0

    def run(self) -> Trained | None:
        """Trains to the end, and judges; None in all processes but the first.

        Raises `ClusterError` if the processes' models differ, `DataError` if training diverged.
        """
        config = self.work.config
        self._report()
        while not self.state.is_done(config.epochs, config.patience):
            self._train_epoch()
            self._end_epoch()
        return self._finish() if self.peers.rank == 0 else None

    def _restored(self) -> TrainState:
        first = self.peers.rank == 0
        if first:
            self._checkpoints.folder.delete_temporaries()
        name = self.peers.of_first(self._checkpoints.newest() if first else None)
        if name is None:
            return TrainState()
        try:
            state, tensors = self._checkpoints.load(name)
        except OSError as e:
            raise ClusterError(
                f"{self._checkpoints.folder}/{name}: worker {self.peers.rank} can't read it ({e}): "
                "the output folder must be one that all nodes see"
            ) from None
        where = f"{self._checkpoints.folder}/{name}"
        with decoding(where, DataError, "it is of another model: delete it"):
            self._proxy.load_state(tensors)
        return state

    def _train_epoch(self) -> None:
        every, size = self.work.config.checkpoint_every_rows, self.work.batch_size
        num_planned = self.work.config.epochs * self.work.num_train_rows
        stream = training_rows(self.work.log, self.state.row, self.work.num_train_rows, self.device)
        for batch in rebatch((self._select(b) for b in stream), size):
            seed = self.work.seed + self.state.num_steps * self.peers.num_workers + self.peers.rank
            torch.manual_seed(seed)
            self._follow(self.state.num_rows, num_planned)
            self._curve.add(len(batch), self._step(batch))
            before = self.state.row
            self.state = replace(
                self.state,
                row=before + len(batch),
                num_rows=self.state.num_rows + len(batch),
                num_steps=self.state.num_steps + 1,
            )
            if self._on_rows is not None and time.perf_counter() - self._report_s > _REPORT_EVERY_S:
                self._report()
            is_last = self.state.row == self.work.num_train_rows
            if self.state.row // every > before // every and not is_last:
                self._save()

    def _end_epoch(self) -> None:
        """Judges, keeps the model if it is the best so far, and a checkpoint."""
        epoch = self.state.epoch + 1
        aucs = self.state.validation_auc
        if self.work.num_validation_rows:
            aucs = (*aucs, self._validation_auc())
        self.state = replace(self.state, epoch=epoch, row=0, validation_auc=aucs)
        if self.state.best_epoch == epoch and self.peers.rank == 0:
            self._checkpoints.save_best(epoch, self._trained())
        self._save()
        self._report()

    def _validation_auc(self) -> float:
        """On the rows held out; each process predicts its part of every shard."""
        log, labels, logits = self.work.log, [], []
        for shard in training_rows(log, self.work.num_train_rows, log.num_train_rows, self.device):
            batch = self._select(shard)
            own = predict(self._proxy.model, batch[self.peers.part(len(batch))])
            logits.append(self.peers.gather(own, len(batch)).cpu())
            labels.append(batch.label.cpu())
        return auc(torch.cat(labels), torch.cat(logits))

    def _save(self) -> None:
        """Process 0 writes a checkpoint, after all have compared their models."""
        if not self.peers.agree(digest(self._proxy, self.device)):
            raise ClusterError(
                f"candidate `{self.work.candidate.name}`: after {self.state.num_rows:,} rows the "
                "workers' models differ: do all nodes have the same log and versions? does "
                "the model keep a state of the rows it sees?"
            )
        losses = self._curve.losses()
        points = self._curve.points(whole=False)
        if not all(x - x == 0.0 for x in (*losses, *(loss for _, loss in points[-1:]))):
            raise DataError(
                f"candidate `{self.work.candidate.name}`: the loss is not finite after "
                f"{self.state.num_rows:,} rows: training diverged; lower learning_rate"
            )
        seconds = time.perf_counter() - self._begin_s
        self.state = replace(self.state, seconds=seconds, points=points, losses=losses)
        if self.peers.rank == 0:
            self._checkpoints.save(self.state, self._proxy.state())

    def _trained(self) -> Checkpoint:
        name = f"{self.work.candidate.name}, seed {self.work.seed}"
        # A reader takes fields out by itself.
        return replace(Checkpoint.of_proxy(self._proxy, name), features=self.work.log.features)

    def _finish(self) -> Trained:
        best, features = self.state.best_epoch, self.work.log.features
        trained = self._trained()
        if best is not None:
            # Named, as its code may be the user's own, which no file may call up by itself.
            trained = Checkpoint.load(self._checkpoints.best(best), features, self.work.candidate)
        model = trained.model(features).to(self.device)
        evaluation = None
        if self.work.rows is not None:
            evaluation = evaluate(model, self.work.rows.select(self._select))
        trained.save(self.work.out / MODEL)
        return Trained(
            state=self.state, loss_curve=self._curve.points(whole=True), evaluation=evaluation
        )

    def _report(self) -> None:
        self._report_s = time.perf_counter()
        if self._on_rows is not None:
            self._on_rows(self.state.num_rows, self._curve.last())


def digest(proxy: Proxy, device: str) -> Tensor:
    """Sums (T,), int64, over the bits of each tensor of a model and its optimiser."""
    tensors: Sequence[Tensor] = [
        *proxy.model.state_dict().values(),
        *proxy.optimizer.state_dict().values(),
    ]
    words = [(t if t.element_size() % 4 == 0 else t.float()).detach() for t in tensors]
    sums = [w.contiguous().flatten().view(torch.int32).sum(dtype=torch.int64) for w in words]
    return torch.stack([s.to(device) for s in sums])
