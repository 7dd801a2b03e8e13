"""A short run over all readers, the corpus of cases that were found, and values made up at will."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diet_ray.config import from_mapping, load_yaml
from diet_ray.data.rows import LABEL, TIMESTAMP, normalise
from diet_ray.data.schema import Schema
from diet_ray.distillation.config import DistillConfig
from diet_ray.documents import parse_json, parse_yaml
from diet_ray.errors import ConfigError, DietError
from diet_ray.memory.manifest import Manifest
from diet_ray.report.candidates import candidates
from diet_ray.report.document import load_consistency
from tests.data.click_log import SCHEMA
from tests.fuzz.arrow_values import column
from tests.fuzz.mutations import yaml_bomb
from tests.fuzz.readers import READERS
from tests.fuzz.runner import CORPUS, Fuzzer, fuzz

NUM_INPUTS = 400
KEPT = sorted(p for p in CORPUS.glob("*/*") if p.is_dir())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


def test_broken_files_are_refused_or_read() -> None:
    report = fuzz(NUM_INPUTS, seed=7, num_workers=1)
    assert report.findings == []
    assert report.num_inputs == NUM_INPUTS
    assert sum(report.accepted.values()) > 0
    assert sum(report.refused.values()) > NUM_INPUTS // 4


def test_the_fuzzer_tells_on_bad_readers() -> None:
    report = fuzz(40, seed=1, num_workers=1, table="tests.fuzz.bad_readers", cpu_s=1.0)
    found = {outcome.reader: outcome.finding or "" for _, outcome in report.findings}
    assert found.keys() == {"raises", "takes", "eats", "silent", "?"}
    assert found["raises"].startswith("ValueError")
    assert found["takes"].startswith("AssertionError")
    assert found["eats"].startswith("out of memory")
    ends = {(o.finding or "").partition(" after")[0] for _, o in report.findings if o.reader == "?"}
    assert ends == {"no end", "died with code -6"}
    assert report.refused["good"] > 0
    assert report.num_inputs == 40


def test_a_case_is_its_seed(fuzzer: Fuzzer, tmp_path: Path) -> None:
    again = Fuzzer(tmp_path, ("schema", "csv", "full_runs"))
    fuzzer = Fuzzer(tmp_path / "other", ("schema", "csv", "full_runs"))
    for number in range(30):
        assert fuzzer.case(3, number)[1:] == again.case(3, number)[1:]


@pytest.mark.parametrize("folder", KEPT, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_was_found_stays_mended(folder: Path, fuzzer: Fuzzer) -> None:
    reader = next(r for r in READERS if r.name == folder.parent.name)
    files = [p for p in folder.rglob("*") if p.is_file()]
    marks = {p.name for p in files if p.name.startswith(".")}
    (file,) = [p for p in files if p.name not in marks]
    outcome = fuzzer.read(reader, str(file.relative_to(folder)), file.read_bytes(), marks)
    assert outcome.finding is None


# Values made up at will.


def refusal(call: Callable[[], object]) -> str | None:
    """What a `DietError` says; None if there is none."""
    try:
        call()
    except DietError as e:
        return str(e)
    return None


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_document_or_refused(content: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        said = refusal(lambda parse=parse: parse(content, "file", ConfigError))
        if said is None:
            assert isinstance(parse(content, "file", ConfigError), dict)
        else:
            assert said.startswith("file: ")


@given(JSON)
@settings(max_examples=200)
def test_any_mapping_is_a_configuration_or_refused(value: Any) -> None:
    for cls in (Schema, DistillConfig, Manifest):
        said = refusal(lambda cls=cls: from_mapping(cls, value, "file"))
        assert said is None or said.startswith(("file", "candidate"))


@given(JSON, st.sampled_from(["kind", "min_count", "max_length", "hash_buckets", "separator"]))
@settings(max_examples=200)
def test_any_value_of_a_key_is_taken_or_named(value: Any, key: str) -> None:
    field = {"name": "f", "kind": "categorical"} | {key: value}
    content = {"timestamp": {"column": "t"}, "label": {"column": "y"}, "fields": [field]}
    said = refusal(lambda: from_mapping(Schema, content, "file"))
    if said is None:
        assert getattr(from_mapping(Schema, content, "file").fields[0], key) == value
    else:
        assert "fields" in said
        assert len(said) < 1_500


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_any_columns_are_rows_or_refused(seed: int) -> None:
    draw = random.Random(seed)
    table = pa.table({name: column(7, draw) for name in SCHEMA.columns})
    if draw.random() < 0.7:
        table = table.set_column(1, "click", column(7, draw, "bool").fill_null(False))
        table = table.set_column(0, "time", pa.array(range(7)))
    text = draw.random() < 0.3
    said = refusal(lambda: normalise(table, SCHEMA, file="file", first_row=0, text=text))
    if said is not None:
        assert said.startswith("file: ")
        return
    rows = normalise(table, SCHEMA, file="file", first_row=0, text=text)
    rows.validate(full=True)
    assert rows.num_rows == 7
    assert set(rows[LABEL].to_pylist()) <= {0.0, 1.0}
    assert rows[TIMESTAMP].null_count == 0
    assert not np.isinf(rows["price"].to_numpy()).any()


@given(JSON)
def test_any_comparison_is_shown_or_refused(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.mktemp("report") / "consistency.json"
    path.write_text(json.dumps({"candidates": [value], "baselines": value}))
    said = refusal(lambda: load_consistency(path))
    if said is None:
        assert len(candidates(load_consistency(path))) == 1
    else:
        assert str(path) in said


@pytest.mark.parametrize("seed", range(6))
def test_a_document_can_t_multiply_itself(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_bytes(b"a: 1\n" + yaml_bomb(random.Random(seed)))
    said = refusal(lambda: load_yaml(path))
    assert "aliases" in said if said else len(yaml.safe_dump(load_yaml(path))) < 10**6


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: 1\na: 2", "key 'a' is given twice"),
        (b"a: &x [*x]", "an alias stands for what it is part of"),
        (b"a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b"a: 2001-99-99", "not valid YAML"),
        (b"a: " + b"[" * 500, "nested too deeply"),
        (b"a: " + b"[" * 70 + b"]" * 70, "nested deeper than"),
        (b'a: "\\ud800"', "surrogates not allowed"),
        (b"a: " + b"9" * 50, "too large for a number"),
        (b"a: 0x" + b"f" * 6000, "great length is too large"),
        (b"x" * 2_000_000, "are more than"),
        (b"\xff", "can't be read"),
        (b"- 1", "expected `key: value` lines"),
    ],
)
def test_what_no_document_may_hold_is_named(content: bytes, says: str) -> None:
    with pytest.raises(DietError, match=says):
        parse_yaml(content, "file", ConfigError)
