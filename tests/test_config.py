from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from diet_ray.config import from_mapping, load_yaml, to_mapping
from diet_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 4
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    order: Literal["time", "shuffle"] = "time"
    verbose: bool = False
    folder: Path = Path("out")
    part: Part = field(default_factory=Part)
    spare: Part | None = None
    sizes: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    budget: int | Literal["auto"] = "auto"
    tags: dict[str, int] = field(default_factory=dict)
    anything: Any = None


FULL: dict[str, Any] = {
    "name": "a",
    "order": "shuffle",
    "verbose": True,
    "folder": "here/there",
    "part": {"size": 2, "rate": 1},
    "spare": {"size": 3},
    "sizes": [1, 2],
    "parts": [{"size": 5}, {}],
    "budget": 7,
    "tags": {"x": 1},
    "anything": {"free": [1, "b"]},
}


def test_every_kind_of_value_by_hand() -> None:
    assert from_mapping(Whole, FULL, "f.yaml") == Whole(
        name="a",
        order="shuffle",
        verbose=True,
        folder=Path("here/there"),
        part=Part(size=2, rate=1.0),
        spare=Part(size=3),
        sizes=(1, 2),
        parts=(Part(size=5), Part()),
        budget=7,
        tags={"x": 1},
        anything={"free": [1, "b"]},
    )


def test_defaults_and_null() -> None:
    assert from_mapping(Whole, {"name": "a", "spare": None, "budget": "auto"}, "f") == Whole(
        name="a"
    )


def test_whole_numbers_become_floats() -> None:
    assert isinstance(from_mapping(Part, {"rate": 1}, "f").rate, float)


def test_yaml_reads_1e_3_as_text_and_that_is_a_float_all_the_same() -> None:
    assert yaml.safe_load("rate: 1e-3") == {"rate": "1e-3"}
    assert from_mapping(Part, {"rate": "1e-3"}, "f").rate == 0.001


def test_to_mapping_is_the_inverse_and_plain_yaml() -> None:
    config = from_mapping(Whole, FULL, "f")
    mapping = to_mapping(config)
    assert from_mapping(Whole, yaml.safe_load(yaml.safe_dump(mapping)), "f") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ordre": "time"}, "f.yaml: unknown key `ordre`; did you mean `order`?"),
        ({"qqqqqq": 1}, "f.yaml: unknown key `qqqqqq`; known keys: name, order, verbose"),
        ({"part": {"sice": 1}}, "f.yaml: part: unknown key `sice`; did you mean `size`?"),
        ({"name": 3}, "f.yaml: name: expected text, found 3"),
        ({"verbose": 1}, "f.yaml: verbose: expected true or false, found 1"),
        ({"part": {"size": 2.5}}, "f.yaml: part: size: expected a whole number, found 2.5"),
        ({"part": {"size": True}}, "f.yaml: part: size: expected a whole number, found True"),
        ({"part": {"size": "2"}}, "f.yaml: part: size: expected a whole number, found '2'"),
        ({"part": {"rate": "fast"}}, "f.yaml: part: rate: expected a number, found 'fast'"),
        ({"part": {"rate": True}}, "f.yaml: part: rate: expected a number, found True"),
        ({"part": {"size": 0}}, "f.yaml: part: size must be at least 1"),
        ({"part": 3}, "f.yaml: part: expected keys, found 3"),
        ({"part": None}, "f.yaml: part: expected keys, found None"),
        ({"order": "tme"}, "f.yaml: order: 'tme' is none of time, shuffle; did you mean `time`?"),
        ({"order": 3}, "f.yaml: order: 3 is none of time, shuffle"),
        ({"sizes": 3}, "f.yaml: sizes: expected a list, found 3"),
        ({"sizes": [1, "b"]}, "f.yaml: sizes[1]: expected a whole number, found 'b'"),
        ({"parts": [{}, {"size": "x"}]}, "f.yaml: parts[1]: size: expected a whole number"),
        ({"tags": {"x": "y"}}, "f.yaml: tags: x: expected a whole number, found 'y'"),
        ({"tags": [1]}, "f.yaml: tags: expected keys, found [1]"),
        ({"spare": {"size": "x"}}, "f.yaml: spare: size: expected a whole number, found 'x'"),
    ],
)
def test_wrong_keys_and_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Whole, {"name": "a"} | change, "f.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: missing key `name`$"):
        from_mapping(Whole, {}, "f.yaml")


def test_a_list_where_keys_belong() -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml: expected keys, found"):
        from_mapping(Whole, [1], "f.yaml")  # type: ignore[arg-type]


def test_load_yaml(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("name: Łódź\nsizes: [1, 2]\n", encoding="utf-8")
    assert load_yaml(path) == {"name": "Łódź", "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected `key: value` lines, found NoneType"),
        (b"- 1\n- 2\n", "expected `key: value` lines, found list"),
        (b"a: [1\nb: 2\n", "not valid YAML"),
        (b"name: \xff\xfe\n", "can't be read"),
    ],
)
def test_files_that_are_no_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_yaml(tmp_path)
