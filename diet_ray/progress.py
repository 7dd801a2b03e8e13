"""Progress that a person can read: a live bar in a terminal, plain lines in a job's log.

Both show the same text: rows done, rows a second, time left, stage i of n and whatever else the
caller shows (slots, loss). A log gets one line at most every `every_s` seconds, one at the end of
each stage, and one at the very end that says whether the work finished.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diet_ray.report import format as fmt

RATE_WINDOW_S = 60.0


class Progress:
    """Counts rows towards `total_rows` (None: unknown) and says how it goes on stderr.

    `completed_rows` is what a resumed run did before: shown as done, left out of the rate.
    `advance` may be called from any thread.
    """

    def __init__(
        self,
        total_rows: int | None,
        title: str,
        *,
        completed_rows: int = 0,
        unit: str = "rows",
        every_s: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_rows = total_rows
        self.title = title
        self.done_rows = completed_rows
        self._completed_before = completed_rows
        self._unit = unit
        self._every_s = every_s
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._shown: dict[str, object] = {}
        self._stage: tuple[int, int] | None = None
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._start_s = self._last_line_s = self._stage_start_s = clock()
        self._stage_start_rows = completed_rows
        self._recent: deque[tuple[float, int]] = deque([(self._start_s, completed_rows)])

    def __enter__(self) -> Progress:
        now = self._clock()
        self._start_s = self._last_line_s = self._stage_start_s = now
        self._recent = deque([(now, self.done_rows)])
        console = self._console
        if (console.is_terminal and not console.is_dumb_terminal) or console.is_jupyter:
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            elapsed = self._clock() - self._start_s
            num_new = self.done_rows - self._completed_before
            rate = f", {self._rate_text(num_new / elapsed)}" if elapsed > 0 and num_new else ""
            how = "finished" if kind is None else "stopped"
            text = f"{how} after {fmt.duration(elapsed)}: {self._done_text()}{rate}"
            extra = self._shown_text()
            if self._live is not None:
                self._live.stop()
                self._live = None
            self._line(f"{text} · {extra}" if extra else text)

    def advance(self, rows: int, **shown: object) -> None:
        """`rows` more are done; `shown` are shown from now on (None takes one away)."""
        with self._lock:
            now = self._clock()
            self.done_rows += rows
            self._recent.append((now, self.done_rows))
            while len(self._recent) > 2 and now - self._recent[1][0] >= RATE_WINDOW_S:
                self._recent.popleft()
            self._show(shown)
            if self._live is None and now - self._last_line_s >= self._every_s:
                self._line(self.status())

    def start_stage(self, number: int, num_stages: int) -> None:
        """Stage `number` (counted from 1) of `num_stages` begins."""
        with self._lock:
            self._stage = (number, num_stages)
            self._stage_start_s = self._clock()
            self._stage_start_rows = self.done_rows

    def end_stage(self, **shown: object) -> None:
        """The stage is committed: one line in a log, whenever the last one was."""
        with self._lock:
            self._show(shown)
            if self._live is None:
                took = fmt.duration(self._clock() - self._stage_start_s)
                rows = fmt.count(self.done_rows - self._stage_start_rows)
                self._line(f"{self.status()} · this stage: {rows} {self._unit} in {took}")

    def note(self, text: str) -> None:
        """One line above the bar, or in the log."""
        with self._lock:
            self._line(text)

    def status(self) -> str:
        """What bar and log line say."""
        parts = []
        if self._stage is not None:
            parts.append(f"stage {self._stage[0]} of {self._stage[1]}")
        parts.append(self._done_text())
        rate = self.rows_per_s()
        if rate is not None:
            parts.append(self._rate_text(rate))
            if self.total_rows is not None and rate > 0 and self.done_rows < self.total_rows:
                left_s = (self.total_rows - self.done_rows) / rate
                parts.append(f"{fmt.duration(left_s)} left")
        if extra := self._shown_text():
            parts.append(extra)
        return " · ".join(parts)

    def rows_per_s(self) -> float | None:
        """The rate over about the last minute; None before anything is known."""
        (first_s, first_rows), (last_s, last_rows) = self._recent[0], self._recent[-1]
        return (last_rows - first_rows) / (last_s - first_s) if last_s > first_s else None

    def _rate_text(self, rate: float) -> str:
        text = fmt.count(rate) if rate >= 10 else fmt.significant(rate)
        return f"{text} {self._unit}/s"

    def _done_text(self) -> str:
        if self.total_rows is None:
            return f"{fmt.count(self.done_rows)} {self._unit}"
        text = f"{fmt.count(self.done_rows)} of {fmt.count(self.total_rows)} {self._unit}"
        if self.total_rows > 0:
            # Rounded down: 100 % means all of them.
            text += f" ({100 * self.done_rows // self.total_rows} %)"
        return text

    def _show(self, shown: dict[str, object]) -> None:
        self._shown = {k: v for k, v in {**self._shown, **shown}.items() if v is not None}

    def _shown_text(self) -> str:
        return " · ".join(
            f"{name.replace('_', ' ')} "
            f"{fmt.significant(item, 4) if isinstance(item, float) else fmt.value(item)}"
            for name, item in self._shown.items()
        )

    def _render(self) -> RenderableType:
        # Called by the drawing thread, which holds the console: taking `_lock` here could deadlock.
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        bar = ProgressBar(
            total=self.total_rows, completed=self.done_rows, pulse=self.total_rows is None
        )
        head.add_row(Text(self.title, style="bold"), bar)
        return Group(head, Text(self.status(), style="dim"))

    def _line(self, text: str) -> None:
        now = self._clock()
        self._last_line_s = now
        if self._live is not None:
            self._console.print(text, markup=False, highlight=False)
            return
        hours, rest = divmod(round(now - self._start_s), 3600)
        stamp = f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
        # A log line is never wrapped, so that it can be searched.
        self._console.print(
            f"[{stamp}] {self.title}: {text}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
