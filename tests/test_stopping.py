"""A process that is told to stop leaves in time, whatever it is at, and says so first."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from diet_ray.monitoring.status_file import read_status

PROGRAM = """
import sys, threading
import diet_ray.cli as cli
import diet_ray.monitoring.monitor as monitor
from pathlib import Path

monitor.RayMetrics = lambda run: monitor.Observers([])

@cli.app.command()
def stuck(run: Path) -> None:
    with monitor.monitored(run, "distill", ()):
        try:
            print("ready", flush=True)
            threading.Event().wait()
        finally:
            print("tidying", flush=True)
            threading.Event().wait()

sys.argv = ["diet", "stuck", sys.argv[1]]
cli.main()
"""


def test_a_stop_does_not_wait_for_tidying_that_never_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "tidying\n"
    assert process.returncode == 128 + signal.SIGTERM
    assert read_status(tmp_path).state == "stopped"
