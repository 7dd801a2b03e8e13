"""A model of one's own is a file in the working folder, wherever the program is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.export.small_run import small_run

PROGRAM = """
import atexit, os, sys
atexit.register(lambda: print(os.environ["PYTHONPATH"].split(os.pathsep)[-1]))
import diet_ray.cli
diet_ray.cli.main()
"""
MODEL = """
from torch import nn

class Mine(nn.Module):
    def __init__(self, features):
        super().__init__()
"""


def test_modules_are_found_in_the_working_folder(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    here = tmp_path / "work"
    here.mkdir()
    (here / "my_model.py").write_text(MODEL)
    (here / "c.yaml").write_text('candidates: [{name: mine, architecture: "my_model:Mine"}]')
    # Not `-c`, for which Python looks there anyway.
    (tmp_path / "program.py").write_text(PROGRAM)
    options = ("--candidates", "c.yaml", "--candidate", "other")
    ran = subprocess.run(
        [sys.executable, tmp_path / "program.py", "train", tmp_path / "run", *options],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "did you mean" in ran.stderr or "known: mine" in ran.stderr, ran.stderr
    assert ran.returncode == 2
    assert ran.stdout.splitlines()[-1] == str(here)
