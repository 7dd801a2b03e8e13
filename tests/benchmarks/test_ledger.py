"""What is measured once is known from then on, and only under the very same conditions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.laboratory import ledger
from benchmarks.laboratory.ledger import Ledger, key_of


def test_entries_outlive_the_process_and_may_begin_with_published_ones(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "a.json")
    first.put("x", {"auc": [0.12345678, 0.5], "seconds": 1.0})
    again = Ledger(tmp_path / "a.json")
    assert again.get("x") == {"auc": [0.123457, 0.5], "seconds": 1.0}
    assert again.get("y") is None
    other = Ledger(tmp_path / "b.json", known=tmp_path / "a.json")
    other.put("y", 1)
    assert Ledger(tmp_path / "b.json").get("x") == again.get("x")
    assert Ledger(tmp_path / "a.json").get("y") is None


def test_entries_of_another_format_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(tmp_path / "a.json").put("x", 1)
    monkeypatch.setattr(ledger, "FORMAT", ledger.FORMAT + 1)
    assert Ledger(tmp_path / "a.json").get("x") is None
    assert Ledger(tmp_path / "b.json", known=tmp_path / "a.json").get("x") is None


def test_a_key_depends_on_every_part_and_on_every_row() -> None:
    rows = torch.arange(6, dtype=torch.float32)
    changed = rows.clone()
    changed[3] += 1
    keys = {
        key_of("few", {"a": 1}, 0, tensors=[rows]),
        key_of("few", {"a": 2}, 0, tensors=[rows]),
        key_of("few", {"a": 1}, 1, tensors=[rows]),
        key_of("few", {"a": 1}, 0, tensors=[changed]),
        key_of("few", {"a": 1}, 0),
    }
    assert len(keys) == 5
    assert key_of("few", {"a": 1}, 0, tensors=[rows.clone()]) in keys
