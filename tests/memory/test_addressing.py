from __future__ import annotations

import numpy as np
import pytest

from diet_ray.errors import DistilledSetError
from diet_ray.memory.addressing import AddressingConfig, address

SIMILARITY = np.array([0.1, -3.0, 2.0, 0.0, -0.2])
SLOTS = np.array([7, 9, 11, 12, 20])


def test_top_is_by_magnitude_whatever_the_sign() -> None:
    config = AddressingConfig(num_slots=3)
    assert address(SIMILARITY, SLOTS, config).tolist() == [1, 2, 4]


def test_ties_go_to_the_lower_slot_number() -> None:
    slots = np.array([30, 10, 20])
    chosen = address(np.array([1.0, -1.0, 1.0]), slots, AddressingConfig(num_slots=2))
    assert chosen.tolist() == [1, 2]


def test_ablations_address_all_or_none() -> None:
    assert address(SIMILARITY, SLOTS, AddressingConfig(mode="all", num_slots=1)).tolist() == [
        *range(5)
    ]
    assert address(SIMILARITY, SLOTS, AddressingConfig(mode="none")).size == 0
    assert address(SIMILARITY, SLOTS, AddressingConfig(num_slots=9)).tolist() == [*range(5)]


def test_a_gradient_that_is_not_finite_is_named() -> None:
    broken = np.where(SLOTS == 11, np.nan, SIMILARITY)
    with pytest.raises(DistilledSetError, match="slot 11"):
        address(broken, SLOTS, AddressingConfig(num_slots=2))


def test_no_slots_is_refused_by_the_configuration() -> None:
    with pytest.raises(ValueError, match="num_slots"):
        AddressingConfig(num_slots=0)
