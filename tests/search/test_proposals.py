"""Candidates that Optuna proposes, from what came of the ones before."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.tune

from diet_ray.errors import ConfigError
from diet_ray.models.catalogue import Candidate
from diet_ray.search.group_trial import Work, _Listener
from diet_ray.search.proposals import Proposals
from diet_ray.search.space import candidates_from
from diet_ray.search.trials import SearchConfig, search
from diet_ray.search.workers import WorkersConfig
from tests.search.test_trials import ROWS

SPACE = {
    "num_samples": 5,
    "seed": 3,
    "architecture": ["lr", "dnn"],
    "hidden_sizes": [[8], [16, 8]],
    "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "embedding_size": {"low": 2, "high": 4},
    "batch_size": 128,
}


def test_values_and_candidates_are_one_another() -> None:
    proposals = Proposals.of(SPACE, "here")
    values = {
        "architecture": '"dnn"',
        "hidden_sizes": "[16, 8]",
        "learning_rate": 0.02,
        "embedding_size": 3,
        "batch_size": "128",
    }
    candidate = proposals.candidate(values)
    assert candidate == Candidate(
        name="dnn-e3-h16x8-lr0.02",
        architecture="dnn",
        hidden_sizes=(16, 8),
        learning_rate=0.02,
        embedding_size=3,
        batch_size=128,
    )
    assert proposals.values(candidate) == values
    assert proposals.values(Candidate(name="x", architecture="fm", batch_size=128)) is None
    assert (
        proposals.values(
            Candidate(
                name="x", architecture="lr", hidden_sizes=(8,), learning_rate=0.5, batch_size=128
            )
        )
        is None
    )


def test_sizes_by_field_come_back_in_any_order() -> None:
    choices = [{"user": 4, "item": 2}, {"user": 4}]
    proposals = Proposals.of({**SPACE, "field_embedding_sizes": choices, "embedding_size": 4}, "x")
    values = {
        "architecture": '"dnn"',
        "hidden_sizes": "[8]",
        "learning_rate": 0.02,
        "embedding_size": "4",
        "batch_size": "128",
        "field_embedding_sizes": '{"item": 2, "user": 4}',
    }
    assert values["field_embedding_sizes"] in proposals.tune_space()["field_embedding_sizes"]
    candidate = proposals.candidate(values)
    assert candidate.field_embedding_sizes == {"item": 2, "user": 4}
    assert proposals.values(candidate) == values


def test_values_may_be_spelt_as_a_file_spells_them() -> None:
    proposals = Proposals.of({**SPACE, "learning_rate": ["1e-3", 1], "dropout": [0, 0.5]}, "here")
    values = {
        "architecture": '"dnn"',
        "hidden_sizes": "[8]",
        "learning_rate": '"1e-3"',
        "embedding_size": 3,
        "batch_size": "128",
        "dropout": "0",
    }
    assert proposals.values(proposals.candidate(values)) == values


def test_a_proposal_that_is_no_candidate_is_told_and_passed_over() -> None:
    sizes = {"field_embedding_sizes": [{"user": 4}]}
    proposals = Proposals.of({**SPACE, **sizes}, "here")
    work = Work(
        groups=(),
        candidates=(),
        proposals=proposals,
        rows=ROWS,
        seeds=(0,),
        num_reports=1,
        device="cpu",
        num_threads=1,
    )
    values = {key: d.sample() for key, d in proposals.tune_space().items()} | {"embedding_size": 2}
    with pytest.raises(ConfigError) as raised:
        proposals.candidate(values)
    trial = SimpleNamespace(
        trial_id="t1",
        config={"values": values},
        get_pickled_error=lambda: raised.value,
        get_error=lambda: None,
    )
    listener = _Listener(work, lambda outcome: None)
    listener.on_trial_error(0, [], trial)
    ((name, reason),) = listener.lost.items()
    assert name == f"{json.loads(values['architecture'])}-t1"
    assert "field_embedding_sizes" in reason


def test_draws_lie_in_the_space() -> None:
    space = Proposals.of(SPACE, "here").tune_space()
    assert {space["embedding_size"].sample() for _ in range(60)} == {2, 3, 4}
    assert all(1e-3 <= space["learning_rate"].sample() <= 1e-1 for _ in range(20))


def test_a_wrong_space_is_named() -> None:
    with pytest.raises(ConfigError, match="here: num_samples"):
        Proposals.of({**SPACE, "num_samples": 0}, "here")
    with pytest.raises(ConfigError, match="only for `diet search`"):
        candidates_from({"optuna": SPACE}, "here")


def test_optuna_searches_and_goes_on_where_it_stood(ray_cluster: None, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    proposals, config = Proposals.of(SPACE, "here"), SearchConfig(seeds=(0,))
    workers = WorkersConfig(num_workers=1)

    def stop(trial: object) -> None:
        raise KeyError("killed")

    with pytest.raises(ray.tune.TuneError, match="killed"):
        search(proposals, ROWS, config, workers, tmp_path, on_trial=stop)
    file = tmp_path / "trials.jsonl"
    kept = file.read_text().splitlines()
    assert len(kept) == 1

    found = search(proposals, ROWS, config, workers, tmp_path)
    assert len(found.trials) == 5
    assert file.read_text().splitlines()[0] == kept[0]
    assert found.trials[0].candidate.name == json.loads(kept[0])["candidate"]["name"]
    for trial in found.trials:
        assert trial.error is None
        assert proposals.values(trial.candidate) is not None
    assert len(found.ranking) == 5
    again = search(proposals, ROWS, config, workers, tmp_path)
    assert again.trials == found.trials
