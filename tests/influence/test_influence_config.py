from __future__ import annotations

import pytest

from diet_ray.config import from_mapping
from diet_ray.errors import ConfigError
from diet_ray.influence.config import InfluenceConfig


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("score", "norm"),
        ("defensive_share", 1.5),
        ("sketch_buckets", -1),
        ("batch_size", 0),
        ("num_scorers", 0),
        ("num_scorers", "many"),
        ("cpus_per_scorer", 0),
        ("gpus_per_scorer", 0),
        ("max_scorers", 0),
        ("shards_in_flight", 0),
        ("start_timeout_s", 0),
    ],
)
def test_a_wrong_value_names_its_key(key: str, value: object):
    with pytest.raises(ConfigError, match=key):
        from_mapping(InfluenceConfig, {key: value}, "distill.yaml: influence")


def test_the_number_of_scorers_may_be_left_to_the_cluster():
    assert from_mapping(InfluenceConfig, {"num_scorers": 3}, "f").num_scorers == 3
    assert from_mapping(InfluenceConfig, {"num_scorers": "auto"}, "f").num_scorers == "auto"


def test_the_pool_grows_from_what_it_starts_with():
    with pytest.raises(ConfigError, match=r"max_scorers must be at least 3"):
        from_mapping(InfluenceConfig, {"num_scorers": 3, "max_scorers": 2}, "f")
    assert from_mapping(InfluenceConfig, {"num_scorers": 3, "max_scorers": 8}, "f").max_scorers == 8
