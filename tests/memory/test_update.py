from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diet_ray.errors import DistilledSetError
from diet_ray.memory.slots import slot_schema
from diet_ray.memory.update import Commit, Update, unpack
from tests.memory.small_memory import click_schema, make_slots

LAYOUT = slot_schema(click_schema())


def update(**changes: object) -> Update:
    values: dict[str, object] = {
        "epoch": 2,
        "stage": 5,
        "sequence": 1,
        "added": make_slots(3, first_slot=10),
        "changed": make_slots(2),
        "removed": np.array([4, 3]),
    }
    return Update(**(values | changes))  # type: ignore[arg-type]


def test_update_round_trip() -> None:
    again = Update.from_message(unpack(update().to_bytes(LAYOUT)), LAYOUT)
    assert (again.epoch, again.stage, again.sequence) == (2, 5, 1)
    assert again.added is not None
    assert again.added.equals(make_slots(3, first_slot=10))
    assert again.changed is not None
    assert again.changed.equals(make_slots(2))
    assert again.removed.tolist() == [3, 4]


def test_an_empty_update_round_trip() -> None:
    payload = Update(epoch=1, stage=0, sequence=0).to_bytes(LAYOUT)
    again = Update.from_message(unpack(payload), LAYOUT)
    assert again.added is not None
    assert again.added.num_rows == again.removed.size == 0


def test_commit_round_trip() -> None:
    state = {"proxy.safetensors": b"\0\1", "stream.json": b"{}"}
    payload = Commit(epoch=1, stage=2, sequence=3, state=state).to_bytes()
    assert Commit.from_message(unpack(payload)).state == state


def test_hash_is_of_the_content_alone() -> None:
    def digest(u: Update) -> str:
        return unpack(u.to_bytes(LAYOUT)).sha256

    pieces = pa.concat_tables([make_slots(3, first_slot=10).slice(i, 1) for i in (2, 0, 1)])
    same = update(epoch=9, added=pieces, removed=np.array([3, 4], dtype=np.int32))
    assert digest(same) == digest(update())
    assert digest(update(removed=np.array([3]))) != digest(update())
    assert digest(update(changed=make_slots(2, seed=1))) != digest(update())


@given(st.data())
def test_a_damaged_message_is_refused(data: st.DataObject) -> None:
    payload = bytearray(update().to_bytes(LAYOUT))
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload) - 1))]
    else:
        position = data.draw(st.integers(0, len(payload) - 1))
        payload[position] ^= 1 << data.draw(st.integers(0, 7))
    # A flip within the header's numbers can only give another valid number, which the sequence
    # check of the store then refuses; the slots are what they were or the message is refused.
    try:
        again = Update.from_message(unpack(bytes(payload)), LAYOUT)
    except DistilledSetError:
        return
    assert again.to_bytes(LAYOUT)[-200:] == update().to_bytes(LAYOUT)[-200:]
    assert again.added is not None
    assert again.added.equals(make_slots(3, first_slot=10))


@given(st.binary(max_size=300))
def test_noise_is_no_message(noise: bytes) -> None:
    with pytest.raises(DistilledSetError, match="broken"):
        unpack(noise)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/etc/x", ".hidden", "x" * 101, "a\0"])
def test_a_state_s_name_can_t_leave_its_folder(name: str) -> None:
    with pytest.raises(DistilledSetError, match="a name has letters"):
        Commit(epoch=1, stage=0, sequence=0, state={name: b""}).to_bytes()


def test_kinds_are_not_mixed_up() -> None:
    commit = Commit(epoch=1, stage=0, sequence=0, state={}).to_bytes()
    with pytest.raises(DistilledSetError, match="kind `update`"):
        Update.from_message(unpack(commit), LAYOUT)
    with pytest.raises(DistilledSetError, match="kind `commit`"):
        Commit.from_message(unpack(update().to_bytes(LAYOUT)))
