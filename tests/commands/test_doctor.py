from __future__ import annotations

import json
from pathlib import Path

import pytest

from diet_ray.doctor import machine
from diet_ray.doctor.finding import failure
from tests.test_cli import diet


def test_exit_code_and_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(machine, "cpus", lambda n: failure("CPUs", "1", "give it two"))
    assert diet("doctor", "--out", tmp_path) == 2
    printed = capsys.readouterr().out
    assert "FAILURE" in printed
    assert "give it two" in printed
    assert "run folder" in printed


def test_json_is_for_other_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("cpus", "main_memory"):
        monkeypatch.setattr(machine, name, lambda n: machine.ok("x", str(n)))
    assert diet("doctor", "--out", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"subject", "status", "found", "advice"} == set(found[0])
