from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from diet_ray.monitoring.status_file import StatusFile, read_status
from tests.test_cli import diet, refused


@pytest.mark.parametrize(
    ("state", "silent", "code", "said"),
    [
        ("finished", False, 0, "finished"),
        ("failed", False, 2, "failed"),
        ("running", False, 3, "running"),
        ("running", True, 4, "gone"),
        ("stopped", False, 4, "stopped"),
    ],
)
def test_exit_codes(
    state: str,
    silent: bool,
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    StatusFile(tmp_path, "distill").close("finished", None)
    status = replace(read_status(tmp_path), state=state)  # type: ignore[arg-type]
    if silent:
        status = replace(status, updated_s=status.updated_s - 3600)
    (tmp_path / "status.json").write_text(json.dumps(asdict(status)))
    assert diet("status", tmp_path) == code
    assert json.loads(capsys.readouterr().out)["state"] == said


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "status.json" in refused(capsys, "status", tmp_path)
