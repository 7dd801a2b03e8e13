from __future__ import annotations

import random
from pathlib import Path

import pytest

from diet_ray.data.sources.public import known
from diet_ray.errors import DataError
from tests.data.sources.public.prepared import encoded, prepared, write

HEADER = ["Label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27))]


def row(label: int, number: int | str, category: str = "68fd1e64") -> list[str]:
    """With an empty and a negative count, and an empty category."""
    return [str(label), str(number), "", "-2", *["5"] * 10, category, "", *["287e684f"] * 24]


def test_raw_file_without_header(tmp_path: Path) -> None:
    raw = write(tmp_path / "dac", *("\t".join(row(i % 2, i)) for i in range(30)))
    log = prepared(raw, tmp_path / "out")
    assert log.column("I1") == list(range(30))
    assert set(log.column("I2")) == {None}
    assert set(log.column("I3")) == {-2}
    assert set(log.column("C1")) == {"68fd1e64"}
    assert set(log.column("C2")) == {None}
    assert log.column("label") == [i % 2 for i in range(30)]
    # There is no time: the file's order is all there is.
    assert log.column("time") == list(range(30))
    assert log.schema.timestamp.unit == "us"
    assert not log.notes


@pytest.mark.parametrize("label", ["Label", "label"])
def test_repacked_files_have_the_published_test_at_the_end(tmp_path: Path, label: str) -> None:
    raw = tmp_path / "x4"
    header = ",".join([label, *HEADER[1:]])
    for first, name in ((0, "train"), (80, "valid"), (90, "test")):
        rows = [",".join(row(i % 2, i)) for i in range(first, 100 if first == 90 else first + 10)]
        write(raw / f"{name}.csv", header, *rows)
    log = prepared(raw, tmp_path / "out")
    assert log.column("I1") == [*range(10), *range(80, 100)]
    assert "split at random" in " ".join(log.notes)


def test_the_contest_has_no_labels(tmp_path: Path) -> None:
    raw = write(tmp_path / "test.txt", "\t".join(row(0, 1)[1:]))
    with pytest.raises(DataError, match="unlabelled: Kaggle's test file has no labels; give train"):
        prepared(raw, tmp_path / "out", "criteo")


def test_the_values_decide_not_the_number_of_columns(tmp_path: Path) -> None:
    assert known.recognise(
        known.starts_of(str(write(tmp_path / "a", "\t".join(row(1, 1)))))
    ).name == "criteo"  # fmt: skip
    wrong = row(1, 1, category="not hex")
    with pytest.raises(DataError, match="not a log that is known"):
        known.recognise(known.starts_of(str(write(tmp_path / "b", "\t".join(wrong)))))


@pytest.mark.usefixtures("ray_cluster")
def test_the_log_can_be_encoded(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = (row(draw.randint(0, 1), draw.randint(-2, 9), draw.choice(["68fd1e64", "05db9164"]))
            for _ in range(400))  # fmt: skip
    raw = write(tmp_path / "raw", *("\t".join(r) for r in rows))
    log = prepared(raw, tmp_path / "out")
    ready = encoded(log, tmp_path / "log")
    assert ready.num_test_rows == 40
    assert len(ready.stages) == 9
