"""Progress: what a job's log and a terminal show, under a clock that the test turns."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from diet_ray.progress import RATE_WINDOW_S, Progress


class Clock:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


def plain(log: io.StringIO) -> Console:
    return Console(file=log, width=40)


def test_log_gets_a_line_at_most_every_so_many_seconds(clock: Clock, log: io.StringIO) -> None:
    with Progress(1000, "distil", every_s=10, console=plain(log), clock=clock) as progress:
        for _ in range(100):
            clock.now_s += 1
            progress.advance(10)
    lines = log.getvalue().splitlines()
    assert len(lines) == 100 // 10 + 1
    assert lines[0] == ("[0:00:10] distil: 100 of 1,000 rows (10 %) · 10 rows/s · 1 min 30 s left")
    assert (
        lines[-1]
        == "[0:01:40] distil: finished after 1 min 40 s: 1,000 of 1,000 rows (100 %), 10 rows/s"
    )


def test_log_gets_a_line_at_each_stage_end(clock: Clock, log: io.StringIO) -> None:
    with Progress(200, "distil", every_s=1e9, console=plain(log), clock=clock) as progress:
        for stage in (1, 2):
            progress.start_stage(stage, 2)
            clock.now_s += 4
            progress.advance(100, slots=10 * stage, proxy_auc=0.6512345)
            progress.end_stage()
    lines = log.getvalue().splitlines()
    assert lines == [
        "[0:00:04] distil: stage 1 of 2 · 100 of 200 rows (50 %) · 25 rows/s · 4.0 s left"
        " · slots 10 · proxy auc 0.6512 · this stage: 100 rows in 4.0 s",
        "[0:00:08] distil: stage 2 of 2 · 200 of 200 rows (100 %) · 25 rows/s"
        " · slots 20 · proxy auc 0.6512 · this stage: 100 rows in 4.0 s",
        "[0:00:08] distil: finished after 8.0 s: 200 of 200 rows (100 %), 25 rows/s"
        " · slots 20 · proxy auc 0.6512",
    ]


def test_a_shown_field_can_be_taken_away(clock: Clock, log: io.StringIO) -> None:
    progress = Progress(10, "search", unit="runs", console=plain(log), clock=clock)
    progress.advance(1, best="dcn")
    assert "best dcn" in progress.status()
    progress.advance(1, best=None)
    assert "best" not in progress.status()
    assert "2 of 10 runs" in progress.status()


def test_resumed_rows_count_as_done_but_not_in_the_rate(clock: Clock, log: io.StringIO) -> None:
    console = plain(log)
    with Progress(1000, "distil", completed_rows=500, console=console, clock=clock) as progress:
        clock.now_s += 10
        progress.advance(100)
        assert progress.rows_per_s() == pytest.approx(10)
        assert "600 of 1,000 rows (60 %)" in progress.status()
        assert "40 s left" in progress.status()
    assert "600 of 1,000 rows (60 %), 10 rows/s" in log.getvalue().splitlines()[-1]


def test_rate_follows_the_last_minute(clock: Clock, log: io.StringIO) -> None:
    progress = Progress(10**9, "distil", console=plain(log), clock=clock)
    for _ in range(600):
        clock.now_s += 1
        progress.advance(1000)
    for _ in range(int(RATE_WINDOW_S) + 1):
        clock.now_s += 1
        progress.advance(10)
    assert progress.rows_per_s() == pytest.approx(10)


def test_unknown_total_promises_nothing(clock: Clock, log: io.StringIO) -> None:
    with Progress(None, "prepare", console=plain(log), clock=clock) as progress:
        clock.now_s += 2
        progress.advance(5000)
        assert progress.status() == "5,000 rows · 2,500 rows/s"


def test_hundred_percent_only_when_all_is_done(clock: Clock, log: io.StringIO) -> None:
    progress = Progress(1000, "distil", console=plain(log), clock=clock)
    progress.advance(999)
    assert "(99 %)" in progress.status()


def test_a_slow_unit_keeps_its_rate(clock: Clock, log: io.StringIO) -> None:
    progress = Progress(12, "search", unit="runs", console=plain(log), clock=clock)
    clock.now_s += 40
    progress.advance(1)
    assert "0.025 runs/s" in progress.status()
    assert "7 min 20 s left" in progress.status()


def test_an_error_is_not_called_finished(clock: Clock, log: io.StringIO) -> None:
    with pytest.raises(KeyboardInterrupt), Progress(10, "distil", console=plain(log), clock=clock):
        raise KeyboardInterrupt
    last = log.getvalue().splitlines()[-1]
    assert "stopped after 0.0 s: 0 of 10 rows (0 %)" in last
    assert "finished" not in last


def test_notes_and_titles_are_text_not_markup(clock: Clock, log: io.StringIO) -> None:
    with Progress(10, "a [bold]log[/bold]", console=plain(log), clock=clock) as progress:
        progress.note("shard [3] of day.parquet was read again")
    lines = log.getvalue().splitlines()
    assert lines[0] == "[0:00:00] a [bold]log[/bold]: shard [3] of day.parquet was read again"


@pytest.mark.parametrize("width", [60, 120])
def test_terminal_shows_the_bar_and_the_same_text(
    clock: Clock, log: io.StringIO, width: int
) -> None:
    console = Console(file=log, force_terminal=True, width=width, color_system=None, _environ={})
    with Progress(1000, "distil [x]", every_s=1, console=console, clock=clock) as progress:
        progress.start_stage(1, 4)
        clock.now_s += 20
        progress.advance(400, slots=12)
        progress.note("a [note]")
        progress.end_stage()
    text = log.getvalue()
    for words in ("distil [x]", "━", "stage 1 of 4", "400 of 1,000 rows (40 %)", "30 s left"):
        assert words in " ".join(text.split()), words
    assert "slots 12" in text
    assert "a [note]\n" in text
    # The drawing is live: no log lines, save the last.
    assert "[0:00:20]" in text.splitlines()[-1]
    assert text.count("[0:00:20]") == 1


def test_the_module_needs_neither_torch_nor_ray_nor_matplotlib() -> None:
    heavy = "{'torch', 'ray', 'matplotlib'}"
    code = f"import sys, diet_ray.progress; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
