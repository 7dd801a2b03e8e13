"""Every candidate is in one group, beside those it can share its steps with."""

from __future__ import annotations

from dataclasses import replace

from diet_ray.models.catalogue import Candidate
from diet_ray.search import groups as grouping
from diet_ray.search.baselines import hard, random_rows
from diet_ray.search.evaluation import evaluation_rows
from diet_ray.search.groups import groups, sets
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.stacks import MAX_STACK
from diet_ray.training.recipe import Recipe
from tests.search.candidates import BROKEN
from tests.search.memory_log import FEATURES, memory_log

LOG = memory_log()
ROWS = DistilledRows(
    train=hard(random_rows(LOG, 200, seed=1)),
    features=FEATURES,
    recipe=Recipe(batch_share=1 / 8),
    evaluation=evaluation_rows(LOG, 400),
)
SMALL = Candidate(name="lr", architecture="lr")
LARGE = Candidate(name="dnn", architecture="dnn", hidden_sizes=(512, 512))


def test_sets_share_a_shape_and_fit_a_stack() -> None:
    rates = [replace(SMALL, name=f"{i}", learning_rate=0.01 * (i + 1)) for i in range(9)]
    candidates = [LARGE, *rates]
    found = sets(candidates, ROWS, num_seeds=MAX_STACK // 4)
    assert found == [(0,), (1, 2, 3), (4, 5, 6), (7, 8, 9)]


def test_more_seeds_than_fit_are_no_obstacle() -> None:
    assert sets([SMALL], ROWS, num_seeds=MAX_STACK + 1) == [(0,)]


def test_all_are_in_a_group_and_the_costly_come_first() -> None:
    candidates = [SMALL, LARGE, replace(LARGE, name="b", batch_size=64), BROKEN]
    found = groups(candidates, ROWS, num_seeds=2, num_workers=2)
    assert sorted(i for g in found for own in g for i in own) == [0, 1, 2, 3]
    assert found[0] == ((2,),)  # more steps than the same model in larger batches
    assert found[1] == ((1,),)


def test_a_worker_has_a_few_groups() -> None:
    candidates = [replace(SMALL, name=f"{i}", batch_size=100 + i) for i in range(40)]
    found = groups(candidates, ROWS, num_seeds=1, num_workers=2)
    assert len(found) == 2 * grouping.GROUPS_PER_WORKER
    sizes = [len(g) for g in found]
    assert max(sizes) - min(sizes) <= 1
