from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from diet_ray.influence import low_rank, top_rows
from diet_ray.influence.top_rows import RankedRows, TopRows, TopRowsReducer, merge


def reduce(
    slots: Tensor,
    gradients: Tensor,
    row: Tensor,
    k: int,
    cuts: Sequence[int] = (),
    tile_size: int = 2**18,
) -> TopRows:
    """The stream cut before the positions `cuts`."""
    reducer = TopRowsReducer(slots, k, tile_size=tile_size)
    edges = [0, *sorted(cuts), len(row)]
    for start, end in itertools.pairwise(edges):
        reducer.update(gradients[start:end], row[start:end])
    return reducer.result()


def sorted_out(slots: Tensor, gradients: Tensor, row: Tensor, k: int) -> TopRows:
    """From the whole matrix, one slot after another."""
    influences = slots.double() @ gradients.double().T
    ranked = []
    for sign in (-1, 1):
        lists = [
            sorted(zip((sign * i).tolist(), row.tolist(), strict=True))[:k] for i in influences
        ]
        table = torch.tensor([[n for _, n in best] for best in lists], dtype=torch.int64)
        value = torch.tensor([[sign * v for v, _ in best] for best in lists], dtype=torch.float64)
        ranked.append(RankedRows(table, value))
    return TopRows(
        k=k, helpful=ranked[0], harmful=ranked[1], moments=low_rank.Moments.of(gradients)
    )


def assert_equal(actual: TopRows, expected: TopRows) -> None:
    for a, b in ((actual.helpful, expected.helpful), (actual.harmful, expected.harmful)):
        assert torch.equal(a.row, b.row)
        assert torch.equal(a.value, b.value)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relu_gradients(num_rows: int, size: int, seed: int) -> Tensor:
    """(num_rows, size + 1): like those of a network's last layer, with few directions in them."""
    hidden = (normal(num_rows, 3, seed=seed) @ normal(3, size, seed=0) + 0.5).relu()
    residual = torch.sigmoid(2 * normal(num_rows, 1, seed=seed + 1)) - 0.3
    return residual * torch.cat([hidden, torch.ones(num_rows, 1)], dim=1)


def almost_alike(num_rows: int) -> tuple[Tensor, Tensor]:
    """Slots (5, 65) and gradients (num_rows, 65) that are one vector, the first slot, or its
    opposite, with a last bit more here and there."""
    generator = torch.Generator().manual_seed(1)
    slots = normal(5, 65, seed=0)
    bit = torch.randint(0, 2, (num_rows, 65), generator=generator).int()
    sign = 2.0 * torch.randint(0, 2, (num_rows, 1), generator=generator) - 1
    return slots, sign * (slots[0].view(torch.int32) + bit).view(torch.float32)


def test_most_helpful_and_most_harmful_rows():
    slots = torch.tensor([[1.0, 0.0], [1.0, -1.0]])
    gradients = torch.tensor([[1.0, 0.0], [-2.0, 1.0], [1.0, 5.0], [3.0, 1.0]])
    # S Gᵀ = [[1, -2, 1, 3], [1, -3, -4, 2]]; rows 8 and 7 are alike to slot 0.
    found = reduce(slots, gradients, torch.tensor([8, 9, 7, 2]), k=2)
    assert found.helpful.row.tolist() == [[2, 7], [2, 8]]
    assert found.helpful.value.tolist() == [[3.0, 1.0], [2.0, 1.0]]
    assert found.harmful.row.tolist() == [[9, 7], [7, 9]]
    assert found.harmful.value.tolist() == [[-2.0, 1.0], [-4.0, -3.0]]
    assert found.moments.influence_sum(slots).tolist() == [3.0, -4.0]


def test_fewer_rows_than_asked_for():
    gradients = torch.tensor([[1.0], [2.0]])
    found = reduce(torch.ones(3, 1), gradients, torch.tensor([0, 1]), k=5)
    assert found.helpful.row.tolist() == [[1, 0]] * 3
    assert found.harmful.row.tolist() == [[0, 1]] * 3
    more = reduce(torch.ones(3, 1), torch.tensor([[3.0]]), torch.tensor([2]), k=5)
    assert merge([found, more]).helpful.row.tolist() == [[2, 1, 0]] * 3
    assert TopRowsReducer(torch.ones(3, 1), 5).result().helpful.row.shape == (3, 0)


whole_numbers = st.integers(-2, 2)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, list[int], int]:
    """Slots, gradients, row numbers, cuts and k. Whole numbers: exact sums, and many ties."""
    size = draw(st.integers(1, 5))
    num_slots, num_rows = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    vectors = st.lists(whole_numbers, min_size=size, max_size=size)
    slots = draw(st.lists(vectors, min_size=num_slots, max_size=num_slots))
    gradients = draw(st.lists(vectors, min_size=num_rows, max_size=num_rows))
    row = draw(st.permutations(range(num_rows)))
    cuts = draw(st.lists(st.integers(0, num_rows), max_size=8))
    k = draw(st.integers(1, 4))
    return torch.tensor(slots).float(), torch.tensor(gradients).float(), torch.tensor(row), cuts, k


@settings(deadline=None)
@given(streams())
def test_any_cut_gives_what_sorting_the_matrix_gives(stream):
    slots, gradients, row, cuts, k = stream
    found = reduce(slots, gradients, row, k, cuts)
    assert_equal(found, sorted_out(slots, gradients, row, k))
    assert torch.equal(found.moments.second, gradients.double().T @ gradients.double())


@settings(deadline=None)
@given(streams())
def test_merging_is_associative_and_equals_one_stream(stream):
    slots, gradients, row, cuts, k = stream
    edges = [0, *sorted(cuts), len(row)]
    parts = [reduce(slots, gradients[i:j], row[i:j], k) for i, j in itertools.pairwise(edges)]
    whole = reduce(slots, gradients, row, k)
    together, one_by_one = merge(parts[::-1]), parts[0]
    for part in parts[1:]:
        one_by_one = merge([one_by_one, part])
    for merged in (together, one_by_one):
        assert_equal(merged, whole)
        assert merged.moments.num_rows == len(row)
        assert torch.equal(merged.moments.first, whole.moments.first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [relu_gradients, normal])
def test_bits_depend_on_neither_cuts_nor_order_nor_blocks(make, dtype: torch.dtype):
    size = 33
    if make is normal:
        slots, gradients = normal(10, size, seed=8), normal(1000, size, seed=9)
    else:
        slots, gradients = (make(n, size - 1, seed=n) for n in (10, 1000))
    slots, gradients = slots.to(dtype), gradients.to(dtype)
    row = torch.arange(1000)
    whole = reduce(slots, gradients, row, 7)
    expected = sorted_out(slots, gradients, row, 7)
    assert torch.equal(whole.helpful.row, expected.helpful.row)
    assert torch.equal(whole.harmful.row, expected.harmful.row)
    assert_close(whole.harmful.value, expected.harmful.value, rtol=1e-12, atol=1e-12)
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    for tile_size, cuts in ((1, [1, 2, 500]), (2000, range(37, 1000, 37)), (2**18, [999])):
        other = reduce(slots, gradients[shuffled], row[shuffled], 7, cuts, tile_size)
        assert_equal(other, whole)
        assert_close(other.moments.second, whole.moments.second)


def test_order_is_decided_in_float64_where_float32_cannot_tell():
    slots, gradients = almost_alike(2000)
    row = torch.arange(2000)
    for cuts in ([], range(20, 2000, 20)):
        found = reduce(slots, gradients, row, 5, cuts, tile_size=1)
        expected = sorted_out(slots, gradients, row, 5)
        assert_close(found.helpful.value, expected.helpful.value, rtol=1e-14, atol=0)
        assert_close(found.harmful.value, expected.harmful.value, rtol=1e-14, atol=0)
    products = slots @ gradients.T
    assert (products.topk(5).indices.sort().values != found.helpful.row.sort().values).any()


def test_few_rows_get_past_the_bounds_where_there_are_few_directions(monkeypatch):
    size, row = 32, torch.arange(8000)
    slots, gradients = relu_gradients(10, size, seed=1), relu_gradients(8000, size, seed=2)
    num_passed = 0
    passes = low_rank.Screen.passes

    def counting(self, *args):
        nonlocal num_passed
        num_passed += len(kept := passes(self, *args))
        return kept

    monkeypatch.setattr(low_rank.Screen, "passes", counting)
    found = reduce(slots, gradients, row, 3, range(1000, 8000, 1000))
    assert 1000 <= num_passed < 1500
    expected = sorted_out(slots, gradients, row, 3)
    assert torch.equal(found.helpful.row, expected.helpful.row)
    assert torch.equal(found.harmful.row, expected.harmful.row)


def test_rows_that_grow_all_the_way_and_favour_one_slot(monkeypatch):
    # Every row enters the list of slot 0: what waits is merged in parts, so that it doesn't take
    # the other lists as much memory.
    widest = 0
    best = top_rows._best

    def measuring(row: Tensor, value: Tensor, k: int) -> tuple[Tensor, Tensor]:
        nonlocal widest
        widest = max(widest, row.shape[1])
        return best(row, value, k)

    monkeypatch.setattr(top_rows, "_best", measuring)
    growth = torch.linspace(1, 2, 2000)[:, None]
    gradients = torch.cat([growth, torch.zeros(2000, 1)], dim=1)
    row = torch.arange(2000)
    slots = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = reduce(slots, gradients, row, 2, range(100, 2000, 100), tile_size=1)
    assert found.helpful.row.tolist() == [[1999, 1998], [0, 1]]
    assert found.harmful.row.tolist() == [[0, 1], [0, 1]]
    assert widest == 4


def test_rows_without_influence_are_kept_in_order_of_their_numbers():
    gradients = normal(300, 3, seed=0)
    row = torch.arange(300).flip(0)
    found = reduce(torch.zeros(1, 3), gradients, row, 4, [50, 100])
    assert found.helpful.row.tolist() == found.harmful.row.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("precision", "num_bits"), [("high", 10), ("medium", 7)])
def test_products_of_lower_precision_change_nothing(precision: str, num_bits: int, monkeypatch):
    slots, gradients = almost_alike(1000)
    row = torch.arange(1000)
    whole = reduce(slots, gradients, row, 7)
    exact_mm = torch.mm

    def mm(x: Tensor, y: Tensor, *, out: Tensor) -> Tensor:
        cut = [
            (z.contiguous().view(torch.int32) & -(1 << (23 - num_bits))).view(torch.float32)
            for z in (x, y)
        ]
        return exact_mm(*cut, out=out)

    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    monkeypatch.setattr(torch, "mm", mm)
    assert_equal(reduce(slots, gradients, row, 7, range(100, 1000, 100), tile_size=1), whole)


def test_results_stay_as_they_were_when_more_rows_come():
    reducer = TopRowsReducer(torch.ones(1, 1), 1)
    reducer.update(torch.tensor([[1.0]]), torch.tensor([0]))
    first = reducer.result()
    reducer.update(torch.tensor([[2.0]]), torch.tensor([1]))
    assert reducer.result().helpful.row.tolist() == [[1]]
    assert first.helpful.row.tolist() == [[0]]


def test_what_cannot_be_ranked_is_refused():
    reducer = TopRowsReducer(torch.ones(2, 3), 1)
    with pytest.raises(ValueError, match="finite"):
        reducer.update(torch.tensor([[0.0, torch.nan, 0.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="finite"):
        TopRowsReducer(torch.full((2, 3), torch.inf), 1)
    with pytest.raises(ValueError, match="at least 1"):
        TopRowsReducer(torch.ones(2, 3), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits():
    slots, gradients = normal(50, 65, seed=0), normal(5000, 65, seed=1)
    row = torch.arange(5000)
    found = reduce(slots.cuda(), gradients.cuda(), row.cuda(), 10)
    assert_equal(
        TopRows(
            k=10,
            helpful=RankedRows(found.helpful.row.cpu(), found.helpful.value.cpu()),
            harmful=RankedRows(found.harmful.row.cpu(), found.harmful.value.cpu()),
            moments=found.moments,
        ),
        reduce(slots, gradients, row, 10),
    )
