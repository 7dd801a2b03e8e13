"""What YAML and JSON documents are read as."""

from __future__ import annotations

import pytest

from diet_ray.documents import parse_yaml
from diet_ray.errors import DataError


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ("base: &b {x: 1}\nown:\n  <<: *b\n  x: 2", {"base": {"x": 1}, "own": {"x": 2}}),
        # An override stays one where what holds it is itself merged, or used again.
        ("{<<: {<<: {x: 1}, x: 2}, y: 3}", {"x": 2, "y": 3}),
        ("l: [&b {<<: {x: 1}, x: 2}, *b]\nm: {<<: *b}", {"l": [{"x": 2}] * 2, "m": {"x": 2}}),
        ("{<<: [{x: 1}, {x: 2, y: 2}], z: 3}", {"x": 1, "y": 2, "z": 3}),
        ("x: 2\n<<: {x: 1}", {"x": 2}),
    ],
)
def test_a_mappings_own_keys_count_before_merged_ones(document: str, found: object) -> None:
    assert parse_yaml(document.encode(), "file", DataError) == found


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("x: 1\nx: 2", "key 'x' is given twice"),
        ("a: {<<: {x: 1, x: 2}}", "key 'x' is given twice"),
        ("a: &a {x: 1, y: 2, x: 3}\nb: *a", "key 'x' is given twice"),
        ("? [a]\n: 1", "key \\['a'\\] is no plain value"),
        ("<<: 3", "expected a mapping"),
    ],
)
def test_what_a_mapping_may_not_hold(document: str, why: str) -> None:
    with pytest.raises(DataError, match=f"^file: not valid YAML: .*{why}"):
        parse_yaml(document.encode(), "file", DataError)
