"""A process that is told to stop leaves in time, whatever it is at, and says so first."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diet_ray.monitoring.status_file import read_status
from diet_ray.stopping import EXIT_CODE, GRACE_S, WORDS_S

PROGRAM = """
import ctypes, os, signal, sys, threading, time
import diet_ray.cli as cli
from diet_ray import stopping
from diet_ray.errors import ConfigError

PATIENCE_S = 50.0  # of a process that leaves as soon as it can, on a busy machine too

def wait():
    print("ready", flush=True)
    threading.Event().wait()

@cli.app.command()
def wait_out_of_python():
    mutex = ctypes.create_string_buffer(64)  # of zeros: one of POSIX, unlocked
    print("ready", flush=True)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

@cli.app.command()
def exit_as_ray_does():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    wait()

@cli.app.command()
def fail_while_unwinding():
    try:
        wait()
    finally:
        raise ConfigError("gone")

@cli.app.command()
def end_a_fork():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, b"r")
        while True:
            time.sleep(0.01)
    os.read(reader, 1)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    print(cli.was_told_to_stop())

@cli.app.command()
def tidy_forever(run: cli.Path):
    stopping.WORDS_S = PATIENCE_S
    import diet_ray.monitoring.monitor as monitor
    monitor.RayMetrics = lambda run: monitor.Observers([])
    with monitor.monitored(run, "distill", ()):
        try:
            wait()
        finally:
            threading.Event().wait()

@cli.app.command()
def speak_forever():
    never = threading.Event()
    with stopping.last_words(never.wait):
        try:
            wait()
        finally:
            never.wait()

@cli.app.command()
def fail_when_told(run: cli.Path):
    stopping.GRACE_S = PATIENCE_S
    import diet_ray.monitoring.monitor as monitor
    monitor.RayMetrics = lambda run: monitor.Observers([])
    with monitor.monitored(run, "distill", ()):
        try:
            wait()
        finally:
            raise ConfigError("gone")

cli.main()
"""


LIMIT_S = 60
"""Far more than a stop takes, on a busy machine too."""


def stopped(*arguments: str | Path) -> None:
    """Sends SIGTERM to a program that is ready for it, and expects the end that it asks for."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.communicate(timeout=LIMIT_S) == ("", "")
        finally:
            process.kill()
    assert process.returncode == EXIT_CODE == 143


@pytest.mark.parametrize(
    "how",
    [
        "wait-out-of-python",
        "exit-as-ray-does",
        "fail-while-unwinding",
        "speak-forever",
    ],
)
def test_a_stop_ends_the_process(how: str) -> None:
    stopped(how)


def test_a_stop_takes_less_than_the_three_seconds_that_ray_grants() -> None:
    assert GRACE_S + WORDS_S <= 2.5


def test_a_forks_stop_is_its_own() -> None:
    command = [sys.executable, "-c", PROGRAM, "end-a-fork"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    assert ran.stdout == "False\n"


@pytest.mark.parametrize("how", ["tidy-forever", "fail-when-told"])
def test_a_run_says_that_it_is_stopped(how: str, tmp_path: Path) -> None:
    stopped(how, tmp_path)
    status = read_status(tmp_path)
    assert (status.state, status.error) == ("stopped", None)
