from __future__ import annotations

import pytest
from typer.testing import CliRunner

from diet_ray.cli import app


@pytest.mark.parametrize(
    ("words", "expected"),
    [("diet ro", {"rollback"}), ("diet export --t", {"--to"}), ("diet export --to f", {"fuxictr"})],
)
def test_a_shell_is_told_commands_options_and_choices(words: str, expected: set[str]) -> None:
    environment = {
        "_DIET_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    found = CliRunner().invoke(app, prog_name="diet", env=environment)
    assert set(found.stdout.split()) == expected
