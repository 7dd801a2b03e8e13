from __future__ import annotations

from pathlib import Path

import pytest

from diet_ray.export.rows import ExportRows
from tests.export.small_run import small_run


@pytest.fixture
def rows(tmp_path: Path) -> ExportRows:
    """The rows of a small run, with all of the log's."""
    small_run(tmp_path / "run")
    return ExportRows.of_run(tmp_path / "run", "clicks", 100, with_full=True)
