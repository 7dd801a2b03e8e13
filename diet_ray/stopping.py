"""A stop that keeps its time: `ray job stop` grants three seconds, then kills.

What is acknowledged is durable already, so that nothing is lost by leaving in the middle of tidying
up; only who polls would not hear of it. So they are told first.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_S = 1.5
WORDS_S = 1.0
EXIT_CODE = 128 + signal.SIGTERM
_last_words: list[Callable[[], None]] = []
_heard: socket.socket | None = None


@contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """`say` is called if the process has to leave before this block has."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


def leave_on_sigterm() -> None:
    """From now on SIGTERM unwinds the main thread, which calls this, by `SystemExit`.

    After `GRACE_S` the process ends with `EXIT_CODE`, wherever it is.
    """
    global _heard
    if _heard is None:
        _heard = _listener()
    signal.signal(signal.SIGTERM, _unwind)


def was_told_to_stop() -> bool:
    """Whether SIGTERM has come, whoever's handler it went to."""
    if _heard is None:
        return False
    try:
        return signal.SIGTERM in _heard.recv(64, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_CODE)


def _listener() -> socket.socket:
    """Where signals are heard of as they come.

    A handler waits until the main thread is back from the call that it is in, and Ray puts its own
    in the place of ours while it starts.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    # A fork's signals are not ours.
    os.register_at_fork(after_in_child=functools.partial(signal.set_wakeup_fd, -1))
    threading.Thread(target=_listen, args=(heard,), name="diet-stop", daemon=True).start()
    return heard


def _listen(heard: socket.socket) -> None:
    # SIGTERM's byte stays, for `was_told_to_stop`.
    while heard.recv(1, socket.MSG_PEEK)[0] != signal.SIGTERM:
        heard.recv(1)
    time.sleep(GRACE_S)
    # In a thread of its own, as a disk may not answer.
    speaker = threading.Thread(target=_speak, daemon=True)
    speaker.start()
    speaker.join(WORDS_S)
    os._exit(EXIT_CODE)


def _speak() -> None:
    for say in _last_words:
        with suppress(Exception):
            say()
