"""A stop that keeps its time: `ray job stop` grants three seconds, then kills.

What is acknowledged is durable already, so that nothing is lost by leaving in the middle of tidying
up; only who polls would not hear of it. So they are told first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

GRACE_S = 2.0
_WORDS_S = 0.3
_last_words: list[Callable[[], None]] = []


@contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """`say` is called if the process has to leave before this block has."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


def leave_within(grace_s: float, exit_code: int) -> None:
    """Lets the process tidy up for so long, and ends it then, wherever it is."""
    timer = threading.Timer(grace_s, _leave, (exit_code,))
    timer.daemon = True
    timer.start()


def _leave(exit_code: int) -> None:
    # In a thread of its own, as a disk may not answer.
    speaker = threading.Thread(target=_speak, daemon=True)
    speaker.start()
    speaker.join(_WORDS_S)
    os._exit(exit_code)


def _speak() -> None:
    for say in _last_words:
        with suppress(Exception):
            say()
