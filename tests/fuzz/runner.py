"""Reads many broken files, each in a process with little memory and little time.

    python -m tests.fuzz.runner --inputs 100000 --workers 2 [--seed S] [--reader NAME]
    python -m tests.fuzz.runner --seed S --case N --keep       replays one, and keeps what it found

A case is (seed, number): it draws a reader, one of its real files, and what befalls that file. A
process that dies, or spends more than `--cpu-s` on one, is a finding like an exception that is no
`DietError`, a message that helps nobody, or a result that isn't correct.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from diet_ray.errors import DietError
from tests.fuzz.mutations import change_json, damage
from tests.fuzz.reader import CHANGED, SEALED, Reader

CORPUS = Path(__file__).parent / "corpus"
MEMORY_BYTES = 1 << 30
"""What a process may take for one input, beyond what it has."""
MAX_MESSAGE = 1_500
STUCK_S = 600.0
"""Of the clock, after which a process that spends no time of a CPU has come to a halt."""
TABLE = "tests.fuzz.readers"


@dataclass(frozen=True)
class Outcome:
    reader: str
    file: str
    accepted: bool
    finding: str | None = None
    """What is wrong; None if the file was refused or read as it should be."""


class Fuzzer:
    """Makes cases and reads them; `scratch` is a folder for real files and broken copies."""

    def __init__(self, scratch: Path, names: tuple[str, ...] = (), table: str = TABLE) -> None:
        known = importlib.import_module(table).READERS
        self.readers = [r for r in known if not names or r.name in names]
        self._weights = [r.weight for r in self.readers]
        self._scratch = scratch

    def real(self, name: str) -> Path:
        """The folder of a reader's real files."""
        folder = self._scratch / "real" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            next(r for r in self.readers if r.name == name).make(folder)
        return folder

    def case(self, seed: int, number: int) -> tuple[Reader, str, bytes, set[str]]:
        """(reader, file, its new content, marks: see `reader.CHANGED`)."""
        draw = random.Random(f"{seed}/{number}")
        reader = draw.choices(self.readers, self._weights)[0]
        real = self.real(reader.name)
        files = sorted(str(p.relative_to(real)) for p in real.rglob("*") if p.is_file())
        file = draw.choice(files)
        content = (real / file).read_bytes()
        change = _change_of(reader, file)
        marks: set[str] = set()
        if change is not None and draw.random() < 0.5:
            marks.add(CHANGED)
            content = change(content, draw)
            if draw.random() < 0.1:
                content = damage(content, draw)
        else:
            content = damage(content, draw)
        if reader.seal is not None and draw.random() < 0.5:
            marks.add(SEALED)
        return reader, file, content, marks

    def run(self, seed: int, number: int) -> Outcome:
        return self.read(*self.case(seed, number))

    def read(self, reader: Reader, file: str, content: bytes, marks: set[str]) -> Outcome:
        """Reads a copy of the real files in which `file` holds `content`."""
        real, work = self.real(reader.name), self._scratch / "work"
        if reader.alone:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        else:
            _copied(real, work)
        (work / file).write_bytes(content)
        for mark in marks:
            (work / mark).touch()
        if SEALED in marks and reader.seal is not None:
            reader.seal(work, file)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(work, real)
        except DietError as e:
            return Outcome(reader.name, file, False, _bad_message(str(e)))
        except MemoryError as e:
            return Outcome(reader.name, file, False, f"out of memory: {e}\n{_trace()}")
        except BaseException as e:
            return Outcome(reader.name, file, False, f"{type(e).__name__}: {e}\n{_trace()}")
        return Outcome(reader.name, file, True)


def _trace() -> str:
    return traceback.format_exc(limit=-6)[-3000:]


def _change_of(reader: Reader, file: str) -> Callable[[bytes, random.Random], bytes] | None:
    if file.endswith(".json"):
        return change_json
    if file.endswith((".parquet", ".yaml", ".jsonl")):
        return reader.changes
    return None


def _bad_message(message: str) -> str | None:
    if not message.strip():
        return "a DietError without a message"
    if len(message) > MAX_MESSAGE:
        return f"a message of {len(message)} characters: {message[:300]}…"
    return None


def limit_memory(num_bytes: int) -> None:
    """Lets this process take so much more than it has.

    Counted anew for each input, since libraries keep address space (the CSV reader of pyarrow some
    two megabytes a file); what they keep of memory shows in the peak that is reported.
    """
    with open("/proc/self/status") as status:
        taken = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (taken + num_bytes, most))


@dataclass
class Watched:
    """A process that works through the cases `number`, `number + stride`, .."""

    number: int
    current: Synchronized[int]
    since_s: Synchronized[float]
    """The clock when the current case began."""
    since_cpu_s: Synchronized[float]
    """What the process had spent then."""
    outcomes: Connection
    sender: Connection
    """Its end of `outcomes`. What is sent has been sent when the process dies, as a queue, whose
    thread sends later, doesn't promise."""
    process: Any = None

    def is_late(self, cpu_s: float) -> bool:
        """Whether the current case has taken too long, however busy the machine is."""
        if self.current.value < 0 or not self.process.is_alive():
            return False
        stuck = time.monotonic() - self.since_s.value > STUCK_S
        return stuck or _spent_s(self.process.pid) - self.since_cpu_s.value > cpu_s


@dataclass
class Report:
    num_inputs: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, Outcome]] = field(default_factory=list)
    peak_bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all processes, their start included."""


def _spent_s(pid: int) -> float:
    """Seconds of a CPU that a process has spent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _work(
    seed: int, first: int, stride: int, end: int, names: tuple[str, ...], table: str, scratch: str,
    current: Synchronized[int], since_s: Synchronized[float], since_cpu_s: Synchronized[float],
    outcomes: Connection,
) -> None:  # fmt: skip
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    fuzzer = Fuzzer(Path(scratch), names, table)
    for reader in fuzzer.readers:
        real = fuzzer.real(reader.name)
        reader.read(_copied(real, Path(scratch) / "work"), real)
    for number in range(first, end, stride):
        limit_memory(MEMORY_BYTES)
        since_s.value, since_cpu_s.value = time.monotonic(), time.process_time()
        current.value = number
        outcomes.send((number, fuzzer.run(seed, number), _peak_bytes()))
    current.value = end
    outcomes.close()
    # Whatever a broken file left behind in a library may not speak up at the end.
    os._exit(0)


def _copied(real: Path, work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    return Path(shutil.copytree(real, work))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(
    num_inputs: int,
    seed: int,
    num_workers: int,
    names: tuple[str, ...] = (),
    cpu_s: float = 20.0,
    table: str = TABLE,
) -> Report:
    """Runs the cases 0 to `num_inputs` - 1."""
    context = multiprocessing.get_context("spawn")
    report, begin_s = Report(), time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_fast_folder()))
    workers = []
    for i in range(num_workers):
        receiver, sender = context.Pipe(duplex=False)
        workers.append(
            Watched(
                number=i,
                current=context.Value("q", -1),
                since_s=context.Value("d", 0.0),
                since_cpu_s=context.Value("d", 0.0),
                outcomes=receiver,
                sender=sender,
            )
        )

    def start(worker: Watched, first: int) -> None:
        scratch = base / f"{worker.number}"
        worker.current.value = -1
        arguments = (seed, first, num_workers, num_inputs, names, table, str(scratch))
        watched = (worker.current, worker.since_s, worker.since_cpu_s)
        worker.process = context.Process(target=_work, args=(*arguments, *watched, worker.sender))
        worker.process.start()

    def take() -> None:
        while ready := wait([w.outcomes for w in workers], timeout=0.2):
            for receiver in ready:
                assert isinstance(receiver, Connection)
                number, outcome, peak = receiver.recv()
                report.peak_bytes = max(report.peak_bytes, peak)
                _count(report, number, outcome)

    try:
        for worker in workers:
            start(worker, worker.number)
        while any(w.process is not None for w in workers):
            take()
            for worker in workers:
                if worker.process is None:
                    continue
                late = worker.is_late(cpu_s)
                number = worker.current.value
                if worker.process.is_alive() and not late:
                    continue
                code = worker.process.exitcode
                if late:
                    worker.process.kill()
                worker.process.join()
                take()
                if number < 0:
                    raise RuntimeError("the real files can't be made, or read")
                if number < num_inputs and (late or code != 0):
                    what = f"no end after {cpu_s:g} s" if late else f"died with code {code}"
                    _count(report, number, Outcome("?", "?", False, what))
                    start(worker, number + num_workers)
                else:
                    worker.process = None
        take()
    finally:
        for worker in workers:
            if worker.process is not None:
                worker.process.kill()
        shutil.rmtree(base, ignore_errors=True)
    report.seconds = time.monotonic() - begin_s
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    report.cpu_seconds = spent.ru_utime + spent.ru_stime
    return report


def _count(report: Report, number: int, outcome: Outcome) -> None:
    report.num_inputs += 1
    if outcome.finding is not None:
        report.findings.append((number, outcome))
        print(f"case {number} ({outcome.reader}: {outcome.file}): {outcome.finding}", flush=True)
    else:
        (report.accepted if outcome.accepted else report.refused)[outcome.reader] += 1


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def keep(fuzzer: Fuzzer, seed: int, number: int) -> Path:
    """Puts a case into the corpus, where the tests read it from then on."""
    reader, file, content, marks = fuzzer.case(seed, number)
    folder = CORPUS / reader.name / f"{seed}-{number}"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    for mark in marks:
        (folder / mark).touch()
    path.write_bytes(content)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--reader", action="append", default=[])
    parser.add_argument("--cpu-s", type=float, default=20.0)
    parser.add_argument("--case", type=int, default=None)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    names = tuple(given.reader)
    if given.case is not None:
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_fast_folder()) as scratch:
            fuzzer = Fuzzer(Path(scratch), names)
            if given.keep:
                print(keep(fuzzer, seed, given.case))
            outcome = fuzzer.run(seed, given.case)
        print(outcome.reader, outcome.file, "taken" if outcome.accepted else "refused")
        print(outcome.finding or "as it should be")
        return int(outcome.finding is not None)
    print(f"seed {seed}: {given.inputs:,} inputs, {given.workers} processes", flush=True)
    report = fuzz(given.inputs, seed, given.workers, names, given.cpu_s)
    for name in sorted(report.accepted | report.refused):
        print(f"{name:12} refused {report.refused[name]:7,}  taken {report.accepted[name]:7,}")
    print(
        f"{report.num_inputs:,} inputs in {report.seconds:.0f} s ({report.cpu_seconds:.0f} s of "
        f"CPU), peak "
        f"{report.peak_bytes / 2**20:.0f} MiB a process, {len(report.findings)} findings"
    )
    if report.findings:
        cases = ", ".join(str(n) for n, _ in report.findings[:20])
        print(f"replay: python -m tests.fuzz.runner --seed {seed} --case N   for N in {cases}")
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
