"""The stages of a run: budgets and weights kept, killed anywhere and resumed bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from diet_ray.data.encoding import to_batch
from diet_ray.data.log import PreparedLog
from diet_ray.data.sources.config import SourceConfig
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.distillation.config import DistillConfig
from diet_ray.distillation.pipeline import (
    STEPS,
    Distiller,
    Watcher,
    remaining_stages,
    resume,
    slot_budgets,
)
from diet_ray.distillation.refinement import RefinementConfig
from diet_ray.distillation.stream import StreamState
from diet_ray.errors import ConfigError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.influence.serial import SerialScorer
from diet_ray.memory.addressing import AddressingConfig
from diet_ray.memory.fusion import FusionConfig
from diet_ray.memory.store import CRASH_POINTS, MemoryStore
from diet_ray.models.catalogue import Candidate
from tests.distillation.small_log import SCHEMA, small_log


class Killed(Exception):
    pass


def make_config(**changes: object) -> DistillConfig:
    settings: dict[str, object] = {
        "schema": Path("schema.yaml"),
        "source": SourceConfig(paths=("log.parquet",)),
        "budget": BudgetConfig(fraction=0.1, boundary_factor=1.25),
        "influence": InfluenceConfig(defensive_share=0.5),
        "fusion": FusionConfig(policy="merge"),
        "proxies": (
            Candidate(
                name="dnn", architecture="dnn", embedding_size=4, hidden_sizes=(8,), batch_size=32
            ),
            Candidate(name="fm", architecture="fm", embedding_size=4, batch_size=32),
        ),
        "addressing": AddressingConfig(num_slots=16),
        "refinement": RefinementConfig(outer_steps=2, inner_batch_size=8, outer_learning_rate=0.1),
        "retained_rows": 40,
    }
    return DistillConfig(**(settings | changes))  # type: ignore[arg-type]


DEFAULT = make_config(
    refinement=RefinementConfig(),
    influence=InfluenceConfig(),
    budget=BudgetConfig(fraction=0.1),
)
"""As shipped: slots drawn uniformly, no refinement, no fusion."""


def run(
    log: PreparedLog,
    memory_path: Path,
    config: DistillConfig,
    on_step: Callable[[int, str], None] = lambda stage, step: None,
    on_crash_point: Callable[[str], None] = lambda name: None,
    driver: str = "driver",
    device: str = "cpu",
) -> tuple[pa.Table, StreamState]:
    """Begins a run or goes on with it; the slots and state at its end."""
    memory = MemoryStore(
        memory_path, SCHEMA, retention=config.kept_stages, on_crash_point=on_crash_point
    )
    try:
        position = memory.begin(driver)
        state = resume(log, config, memory, device)
        budgets = slot_budgets(log, config)
        scorer = SerialScorer(log, config.lead, config.influence, budgets, config.seed)
        watcher = Watcher(on_step=on_step)
        Distiller(log, config, state, scorer, memory, position, watcher).run(
            remaining_stages(log, state)
        )
        return memory.slots(), state
    finally:
        memory.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return small_log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def undisturbed(log: PreparedLog, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return run(log, tmp_path_factory.mktemp("undisturbed"), make_config())[0]


def test_budget_weight_and_records(log: PreparedLog, tmp_path: Path) -> None:
    slots, state = run(log, tmp_path, make_config())
    assert [r.slots for r in state.records] == [20, 32, 48]
    assert slots.num_rows == 48
    assert slots["_weight"].to_numpy().sum() == pytest.approx(480, rel=1e-9)
    assert np.unique(slots["_birth_stage"].to_numpy()).tolist() == [0, 1, 2]
    assert [r.addressed for r in state.records] == [16, 16, 16]
    # A slot's residual is its label minus a probability.
    residual = slots["_residual"].to_numpy()
    assert ((residual > 0) == (slots["_label"].to_numpy() == 1)).all()
    assert (np.abs(residual) < 1).all()


def test_the_proxy_learns_along_the_stream(log: PreparedLog, tmp_path: Path) -> None:
    config = make_config(
        proxies=(
            Candidate(
                name="dnn",
                architecture="dnn",
                embedding_size=4,
                hidden_sizes=(8,),
                batch_size=8,
                learning_rate=0.02,
            ),
        )
    )
    _, state = run(log, tmp_path, config)
    losses = [r.progressive_log_loss for r in state.records]
    assert losses[-1] < losses[0] - 0.03


def test_same_seed_same_bits_other_seed_other_slots(
    log: PreparedLog, undisturbed: pa.Table, tmp_path: Path
) -> None:
    again, _ = run(log, tmp_path / "a", make_config())
    other, _ = run(log, tmp_path / "b", make_config(seed=1))
    assert again.equals(undisturbed)
    assert not other["_row"].equals(undisturbed["_row"])


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_a_stage(
    log: PreparedLog, undisturbed: pa.Table, tmp_path: Path, step: str
) -> None:
    def kill(stage: int, name: str) -> None:
        if (stage, name) == (1, step):
            raise Killed

    with pytest.raises(Killed):
        run(log, tmp_path, make_config(), on_step=kill)
    resumed, state = run(log, tmp_path, make_config(), driver="second")
    assert resumed.equals(undisturbed)
    assert [r.stage for r in state.records] == [0, 1, 2]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_killed_at_any_point_of_the_memory(
    log: PreparedLog, undisturbed: pa.Table, tmp_path: Path, point: str
) -> None:
    """At the point's fifth passing, or its last one before the end if it is rarer."""
    passings = []

    def count(name: str) -> None:
        passings.extend([name] if name == point else [])

    run(log, tmp_path / "counted", make_config(), on_crash_point=count)
    target = min(5, len(passings))
    assert target > 0
    passed = 0

    def kill(name: str) -> None:
        nonlocal passed
        passed += name == point
        if passed == target and name == point:
            raise Killed

    with pytest.raises(Killed):
        run(log, tmp_path / "killed", make_config(), on_crash_point=kill)
    resumed, _ = run(log, tmp_path / "killed", make_config(), driver="second")
    assert resumed.equals(undisturbed)


def test_a_later_day_continues_as_if_it_had_always_been_there(
    undisturbed: pa.Table, tmp_path: Path
) -> None:
    two = small_log(tmp_path / "log", num_stages=2)
    run(two, tmp_path / "memory", make_config())
    three = small_log(tmp_path / "log", num_stages=3)
    assert run(three, tmp_path / "memory", make_config(), driver="next day")[0].equals(undisturbed)


def test_fixed_capacity_keeps_early_stages(log: PreparedLog, tmp_path: Path) -> None:
    config = make_config(budget=BudgetConfig(slots=30, boundary_factor=1.25))
    slots, state = run(log, tmp_path, config)
    assert [r.slots for r in state.records] == [30, 30, 30]
    assert np.bincount(slots["_birth_stage"].to_numpy()).tolist() == [10, 10, 10]
    assert slots["_weight"].to_numpy().sum() == pytest.approx(480, rel=1e-9)


def test_soft_labels_are_the_newest_proxies_mean_logits(log: PreparedLog, tmp_path: Path) -> None:
    slots, state = run(log, tmp_path, DEFAULT)
    batch = to_batch(slots, log.features)
    logits = [proxy.predict(batch) for proxy in state.proxies.all]
    assert len(logits) == 2
    expected = torch.stack(logits).mean(dim=0)
    np.testing.assert_array_equal(slots["_soft_label"].to_numpy(), expected.numpy())
    assert [r.addressed for r in state.records] == [0, 0, 0]


def test_slots_are_rows_that_no_proxy_has_trained_on(log: PreparedLog, tmp_path: Path) -> None:
    """The same run with every slot's label turned around gives the same soft labels."""
    slots, _ = run(log, tmp_path / "memory", DEFAULT)
    chosen = set(slots["_row"].to_pylist())
    turned = small_log(tmp_path / "log")
    for stage in turned.stages:
        path = Path(turned.path) / stage.shards[0].file
        rows = pq.read_table(path)
        label = rows["_label"].to_numpy().copy()
        mine = np.array([row in chosen for row in rows["_row"].to_pylist()])
        label[mine] = 1 - label[mine]
        rows = rows.set_column(rows.schema.get_field_index("_label"), "_label", pa.array(label))
        pq.write_table(rows, path, row_group_size=80)
    again, _ = run(turned, tmp_path / "again", DEFAULT)
    assert again["_row"].equals(slots["_row"])
    assert again["_soft_label"].equals(slots["_soft_label"])
    assert not again["_residual"].equals(slots["_residual"])


def test_rows_are_held_out_for_all_slots_of_a_stage_but_never_all_rows(
    log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []

    def every_row(seed: int, rows: np.ndarray, share: float) -> np.ndarray:
        shares.append(share)
        return np.ones(len(rows), bool)

    monkeypatch.setattr("diet_ray.distillation.pipeline.first_drawn", every_row)
    # One slot for a stage's 160 rows, but two strata.
    config = make_config(budget=BudgetConfig(fraction=1 / 160), refinement=RefinementConfig())
    _, state = run(log, tmp_path, config)
    assert shares == [2 * 2 / 160] * 3
    assert all(np.isfinite(r.progressive_log_loss) for r in state.records)


def test_a_budget_below_one_slot_a_stratum(log: PreparedLog) -> None:
    with pytest.raises(ConfigError, match=r"budget: 1 slots for 480 rows .* 2 strata"):
        slot_budgets(log, make_config(budget=BudgetConfig(slots=1)))
