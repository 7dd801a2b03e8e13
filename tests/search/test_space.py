"""Search spaces: what they expand to, how candidates are named, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diet_ray.config import load_yaml
from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate, default_candidates
from diet_ray.search.space import Range, candidates_from


def parse(text: str) -> tuple[Candidate, ...]:
    return candidates_from(yaml.safe_load(text), "search.yaml: candidates")


def test_default_is_the_catalogue() -> None:
    assert candidates_from("default", "x") == candidates_from(None, "x") == default_candidates()


def test_a_list_keeps_names_and_makes_missing_ones() -> None:
    found = parse("""
    - {name: mine, architecture: lr}
    - {architecture: dnn, hidden_sizes: [32, 16]}
    - {architecture: dnn, hidden_sizes: [64]}
    """)
    assert [c.name for c in found] == ["mine", "dnn-h32x16", "dnn-h64"]
    assert found[1].hidden_sizes == (32, 16)


def test_a_grid_is_every_combination_in_order() -> None:
    found = parse("""
    grid:
      architecture: [lr, dnn]
      embedding_size: [8, 16]
      hidden_sizes: [[64], [128, 64]]
      learning_rate: 0.002
    """)
    assert len(found) == 8
    assert {c.learning_rate for c in found} == {0.002}
    assert found[0] == Candidate(
        name="lr-e8-h64",
        architecture="lr",
        embedding_size=8,
        hidden_sizes=(64,),
        learning_rate=0.002,
    )
    assert found[-1].name == "dnn-e16-h128x64"
    assert len({c.name for c in found}) == 8


def test_a_flat_list_of_sizes_is_one_value() -> None:
    found = parse("grid: {architecture: [dnn], hidden_sizes: [128, 64], dropout: [0, 0.5]}")
    assert [c.hidden_sizes for c in found] == [(128, 64), (128, 64)]
    assert [c.name for c in found] == ["dnn-drop0", "dnn-drop0.5"]


def test_sizes_by_field_are_one_value() -> None:
    sizes = "[{}, {user: 4}, {user: 4, item: 8}]"
    found = parse(f"grid: {{architecture: [dnn], field_embedding_sizes: {sizes}}}")
    assert [c.name for c in found] == ["dnn-fields0", "dnn-fieldsuser=4", "dnn-fieldsitem=8+user=4"]
    assert found[2].field_embedding_sizes == {"item": 8, "user": 4}
    one = "{user: 4, item: 8}"
    for space in (
        f"grid: {{architecture: [dnn], field_embedding_sizes: {one}}}",
        f"random: {{num_samples: 1, architecture: [dnn], field_embedding_sizes: {one}}}",
        f"[{{architecture: dnn, field_embedding_sizes: {one}}}]",
    ):
        assert parse(space)[0].field_embedding_sizes == {"item": 8, "user": 4}
    drawn = parse(
        f"random: {{num_samples: 20, architecture: [dnn], field_embedding_sizes: {sizes}}}"
    )
    assert len(drawn) == 3


def test_an_optimiser_is_searched() -> None:
    found = parse("grid: {architecture: [dnn], beta1: [0.9, 0.5], epsilon: [1e-8, 1e-4]}")
    assert [c.name for c in found][::3] == ["dnn-beta1=0.9-eps1e-08", "dnn-beta1=0.5-eps0.0001"]
    drawn = parse("random: {num_samples: 5, architecture: [dnn], beta2: {low: 0.9, high: 0.999}}")
    assert len({c.optimizer.beta2 for c in drawn}) == 5


def test_the_example_of_sizes_names_fields_of_its_log() -> None:
    folder = Path(__file__).parents[2] / "examples" / "kuairand"
    found = parse(yaml.safe_dump(load_yaml(folder / "field_sizes.yaml")["candidates"]))
    assert len(found) == 8
    names = {f["name"] for f in load_yaml(folder / "schema.yaml")["fields"]}
    assert {name for c in found for name in c.field_embedding_sizes} <= names


RANDOM = """
random:
  num_samples: 200
  seed: {seed}
  architecture: [lr, dnn]
  learning_rate: {{low: 1e-4, high: 1e-2, log: true}}
  embedding_size: {{low: 4, high: 7}}
"""


def test_random_draws_lie_in_range_and_follow_the_seed() -> None:
    found = parse(RANDOM.format(seed=3))
    assert found == parse(RANDOM.format(seed=3))
    assert found != parse(RANDOM.format(seed=4))
    assert len(found) == len({c.name for c in found}) == 200
    rates = np.array([c.learning_rate for c in found])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    # Uniform in the logarithm: the median is the geometric mean of the ends.
    assert np.median(np.log10(rates)) == pytest.approx(-3, abs=0.25)
    counts = np.bincount([c.embedding_size for c in found], minlength=8)[4:]
    assert counts.sum() == 200
    assert counts.min() > 25


def test_kinds_may_stand_together() -> None:
    found = parse("""
    list: [{name: base, architecture: lr}]
    grid: {architecture: [dnn], dropout: [0.1, 0.2]}
    random: {num_samples: 2, architecture: [deepfm], dropout: {low: 0.3, high: 0.4}}
    """)
    assert len(found) == 5
    assert found[0].name == "base"


def test_draws_that_coincide_are_one_candidate() -> None:
    assert len(parse("random: {num_samples: 9, architecture: [lr], dropout: [0.1, 0.2]}")) == 2


def test_whole_numbers_are_drawn_as_often_at_the_ends() -> None:
    generator = np.random.default_rng(0)
    draws = [Range(low=1, high=4).draw(generator, whole=True) for _ in range(4000)]
    assert np.bincount(draws)[1:] / 4000 == pytest.approx(0.25, abs=0.03)
    draws = [Range(low=1, high=64, log=True).draw(generator, whole=True) for _ in range(1000)]
    assert min(draws) == 1
    assert max(draws) <= 64
    assert np.mean(np.array(draws) <= 8) == pytest.approx(0.58, abs=0.06)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"architecture": "dnn", "embeding_size": 8}], "did you mean `embedding_size`"),
        ([{"architecture": "deepfn"}], "did you mean `deepfm`"),
        ([{"embedding_size": 8}], "missing key `architecture`"),
        ([{"architecture": "dnn", "dropout": "much"}], "expected a number"),
        ([{"name": "a", "architecture": "dnn"}, {"name": "a", "architecture": "lr"}], "named `a`"),
        (["dnn"], r"\[0\]: expected keys of a candidate"),
        ([], "no candidates"),
        (7, "expected a list of candidates"),
        ({"gird": {}}, "did you mean `grid`"),
        ({"grid": {"architecture": ["dnn"], "droput": [0]}}, "did you mean `dropout`"),
        ({"grid": {"dropout": [0]}}, "missing key `architecture`"),
        ({"grid": {"architecture": ["dnn"], "dropout": []}}, "dropout: an empty list"),
        ({"grid": {"architecture": ["dnn"], "dropout": {"low": 0, "high": 1}}}, "under `random:`"),
        ({"random": {"architecture": ["dnn"]}}, "num_samples: expected a whole number"),
        ({"random": {"architecture": ["dnn"], "num_samples": 0}}, "num_samples"),
        (
            {
                "random": {
                    "architecture": ["dnn"],
                    "num_samples": 1,
                    "dropout": {"low": 1, "high": 0},
                }
            },
            "low must be below high",
        ),
        (
            {
                "random": {
                    "architecture": ["dnn"],
                    "num_samples": 1,
                    "dropout": {"lo": 0, "high": 1},
                }
            },
            "did you mean `low`",
        ),
        (
            {
                "random": {
                    "architecture": ["dnn"],
                    "num_samples": 1,
                    "hidden_sizes": {"low": 1, "high": 2},
                }
            },
            "not a range",
        ),
        ([{"architecture": "dnn", "field_embedding_sizes": [4]}], "expected keys"),
        (
            [{"architecture": "dnn", "field_embedding_sizes": {"user": 4.5}}],
            "field_embedding_sizes: user: expected a whole number",
        ),
        (
            {"grid": {"architecture": ["dnn"], "field_embedding_sizes": {"user": 17}}},
            "user: must lie from 1 to embedding_size, 16",
        ),
    ],
)
def test_what_is_wrong_is_named(content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        candidates_from(content, "search.yaml: candidates")
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("search.yaml: candidates")
