"""The evaluation rows and what is judged on them."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from diet_ray.errors import DataError
from diet_ray.models.catalogue import Candidate, build
from diet_ray.search.evaluation import NUM_BLOCKS, evaluate, evaluation_rows
from diet_ray.training.loop import predict
from diet_ray.training.metrics import auc, log_loss
from tests.search.memory_log import FEATURES, MemoryLog, memory_log


def relabelled(log: MemoryLog, label: np.ndarray) -> MemoryLog:
    index = log.table.schema.get_field_index("_label")
    return dataclasses.replace(
        log, table=log.table.set_column(index, "_label", pa.array(label, pa.float32()))
    )


def test_rows_are_evenly_spaced_test_rows_in_order() -> None:
    log = memory_log(test=((150, 50), (200,)))
    rows = evaluation_rows(log, 100)
    expected = log.table["_label"].to_numpy()[2100:][::4]
    np.testing.assert_array_equal(rows.batch.label.numpy(), expected)
    assert rows.num_ranking == 50
    assert len(evaluation_rows(log, 10_000)) == 400


def test_figures_are_those_of_each_slice() -> None:
    log = memory_log()
    rows = evaluation_rows(log, 400)
    model = build(Candidate(name="m", architecture="dnn"), FEATURES, seed=1)
    found = evaluate(model, rows)
    label, logit = rows.batch.label, predict(model, rows.batch)
    assert found.auc == auc(label[:200], logit[:200])
    assert found.regret_auc == auc(label[200:], logit[200:])
    assert found.logloss == log_loss(label[:200], logit[:200])
    assert found.regret_logloss == log_loss(label[200:], logit[200:])
    assert len(found.block_auc) == NUM_BLOCKS
    assert found.block_auc[1] == auc(label[25:50], logit[25:50])


def test_a_ranking_needs_no_later_rows() -> None:
    rows = evaluation_rows(memory_log(), 400)
    model = build(Candidate(name="m", architecture="dnn"), FEATURES, seed=1)
    whole, found = evaluate(model, rows), evaluate(model, rows.ranking_alone())
    assert len(rows.ranking_alone()) == 200
    assert found == replace(whole, regret_auc=None, regret_logloss=None)


def test_a_block_of_one_class_has_no_auc() -> None:
    log = memory_log()
    label = log.table["_label"].to_numpy().copy()
    label[2100:2125] = 1.0
    rows = evaluation_rows(relabelled(log, label), 400)
    model = build(Candidate(name="m", architecture="lr"), FEATURES, seed=1)
    assert evaluate(model, rows).block_auc[0] is None
    assert evaluate(model, rows).block_auc[1] is not None


@pytest.mark.parametrize(("half", "value"), [("first", 0.0), ("second", 1.0)])
def test_a_half_of_one_class_is_refused(half: str, value: float) -> None:
    log = memory_log()
    label = log.table["_label"].to_numpy().copy()
    label[2100:2300] = value if half == "first" else label[2100:2300]
    label[2300:] = value if half == "second" else label[2300:]
    with pytest.raises(DataError, match=f"memory-log: the {half} half .* label {value:.0f} alone"):
        evaluation_rows(relabelled(log, label), 400)


def test_a_log_without_a_test_part_is_refused() -> None:
    with pytest.raises(DataError, match="no test rows"):
        evaluation_rows(memory_log(test=()), 400)


def test_a_diverged_model_is_named_as_such() -> None:
    log = memory_log()
    model = build(Candidate(name="m", architecture="dnn"), FEATURES, seed=1)
    with torch.no_grad():
        model.table.weight.fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="diverged"):
        evaluate(model, evaluation_rows(log, 400))
