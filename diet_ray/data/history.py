"""Behaviour history: the items of a user's own earlier positive events, and of no other.

Time-safe by construction: an event counts as earlier only if its timestamp is strictly smaller, so
rows of one instant don't see each other, and no row sees its own label.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_ray.data.batch import NUM_RESERVED_IDS, PADDING_ID
from diet_ray.data.vocabulary import Vocabulary

NO_USER = -1

_TABLE_SCHEMA = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("items", pa.list_(pa.int32()), nullable=False),
        pa.field("held", pa.list_(pa.int32()), nullable=False),
    ]
)


class UserKeys:
    """Dense keys 0, 1, .. of users in order of appearance, those of the test part included.

    Not the vocabulary's codes: users whom the vocabulary doesn't know must not share a history.
    """

    def __init__(self) -> None:
        self._index = Vocabulary()

    def __len__(self) -> int:
        return self._index.num_codes - NUM_RESERVED_IDS

    def of(self, users: pa.Array) -> np.ndarray:
        """Keys (int32) of users; `NO_USER` where the user is missing."""
        return self._index.learn(users) - NUM_RESERVED_IDS

    def values(self) -> list[str]:
        """Users in order of keys."""
        return self._index.values()

    def restore(self, values: list[str]) -> None:
        """Gives the values the keys 0, 1, .. in this order."""
        self._index.learn(pa.array(values, pa.string()))


class History:
    """The latest `max_length` positive events of every user, carried along the stream."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        # Indexed by user key; oldest first, padded at the end.
        self._items = np.zeros((0, max_length), dtype=np.int32)
        self._lengths = np.zeros(0, dtype=np.int64)
        # Events of the last instant, which rows of that instant must not see; in time order.
        self._held_users = np.zeros(0, dtype=np.int64)
        self._held_items = np.zeros(0, dtype=np.int32)
        self._last_us: int | None = None

    def advance(
        self, users: np.ndarray, items: np.ndarray, positive: np.ndarray, timestamps: np.ndarray
    ) -> np.ndarray:
        """Histories (n, max_length) int32 of the next n rows, which then become history.

        users: keys (n,), -1 for none, whose history is empty. items: codes (n,). positive: bool
        (n,). timestamps: int64 (n,), not decreasing, also from one call to the next.
        """
        n = len(users)
        if n == 0:
            return np.zeros((0, self.max_length), dtype=np.int32)
        users = users.astype(np.int64)
        # Ranks of instants: 1.. for the rows, 0 for what was held back from an earlier one.
        rank = np.concatenate([[1], 1 + np.cumsum(timestamps[1:] != timestamps[:-1])])
        held_rank = int(self._last_us == timestamps[0])
        is_event = positive & (users != NO_USER)
        event_users = np.concatenate([self._held_users, users[is_event]])
        event_items = np.concatenate([self._held_items, items[is_event]])
        event_rank = np.concatenate(
            [np.full(len(self._held_users), held_rank, dtype=np.int64), rank[is_event]]
        )
        touched = np.unique(np.concatenate([users[users != NO_USER], self._held_users]))
        self._grow(int(touched[-1]) + 1 if len(touched) else 0)
        known = self._lengths[touched]

        order = np.argsort(event_users, kind="stable")
        owner = np.searchsorted(touched, event_users[order])
        num_events = np.bincount(owner, minlength=len(touched))
        first_event = np.cumsum(num_events) - num_events

        # One run per user in `flat`: what was known, then the events, in time order.
        run_start = np.cumsum(known + num_events) - (known + num_events)
        flat = np.full(int((known + num_events).sum()) + self.max_length, PADDING_ID, np.int32)
        place = np.arange(self.max_length)
        is_known = place < known[:, None]
        flat[(run_start[:, None] + place)[is_known]] = self._items[touched][is_known]
        first_new = run_start + known
        flat[first_new[owner] + np.arange(len(owner)) - first_event[owner]] = event_items[order]

        # Of each row's user, the events of earlier instants: events are sorted by (user, rank).
        row_owner = np.searchsorted(touched, users)
        row_owner[users == NO_USER] = 0
        num_ranks = n + 1
        event_key = owner * num_ranks + event_rank[order]
        num_earlier = np.searchsorted(event_key, row_owner * num_ranks + rank)
        if len(touched):
            num_earlier -= first_event[row_owner]
            length = np.minimum(known[row_owner] + num_earlier, self.max_length)
            length[users == NO_USER] = 0
            seen = self._windows(flat, first_new[row_owner] + num_earlier, length)
        else:
            seen = np.zeros((n, self.max_length), dtype=np.int32)

        is_past = event_rank < rank[-1]
        num_past = np.bincount(owner[is_past[order]], minlength=len(touched))
        length = np.minimum(known + num_past, self.max_length)
        self._items[touched] = self._windows(flat, first_new + num_past, length)
        self._lengths[touched] = length
        self._held_users, self._held_items = event_users[~is_past], event_items[~is_past]
        self._last_us = int(timestamps[-1])
        return seen

    def to_table(self, users: list[str]) -> pa.Table:
        """Columns user, items, held (events of the last instant), in order of user keys."""
        self._grow(len(users))
        lengths = self._lengths[: len(users)]
        is_item = np.arange(self.max_length) < lengths[:, None]
        order = np.argsort(self._held_users, kind="stable")
        num_held = np.bincount(self._held_users, minlength=len(users))
        return pa.table(
            [
                users,
                _lists(self._items[: len(users)][is_item], lengths),
                _lists(self._held_items[order], num_held),
            ],
            schema=_TABLE_SCHEMA,
        )

    def restore(self, table: pa.Table, last_us: int, num_codes: int) -> None:
        """Becomes what `to_table` was called on, after a row at `last_us`.

        Raises ValueError if it is no such table.
        """
        if [(f.name, f.type) for f in table.schema] != [(f.name, f.type) for f in _TABLE_SCHEMA]:
            raise ValueError(f"columns must be {', '.join(_TABLE_SCHEMA.names)}")
        if any(table[name].null_count for name in _TABLE_SCHEMA.names):
            raise ValueError("must not have nulls")
        if len(pc.unique(table["user"])) < len(table):
            raise ValueError("users must differ")
        items, held = table["items"].combine_chunks(), table["held"].combine_chunks()
        lengths = items.value_lengths().to_numpy().astype(np.int64)
        codes = pa.concat_arrays([items.flatten(), held.flatten()])
        if lengths.max(initial=0) > self.max_length or codes.null_count:
            raise ValueError(f"a user has more than {self.max_length} items, or none of a number")
        if len(codes) and not 0 <= pc.min(codes).as_py() <= pc.max(codes).as_py() < num_codes:
            raise ValueError(f"items must lie from 0 to {num_codes - 1}")
        self._items = np.full((len(table), self.max_length), PADDING_ID, dtype=np.int32)
        self._items[np.arange(self.max_length) < lengths[:, None]] = items.flatten().to_numpy()
        self._lengths = lengths
        num_held = held.value_lengths().to_numpy()
        self._held_users = np.repeat(np.arange(len(table)), num_held)
        self._held_items = held.flatten().to_numpy()
        self._last_us = last_us

    def _windows(self, flat: np.ndarray, end: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The `length` values of `flat` before `end`, padded to max_length."""
        windows = np.lib.stride_tricks.sliding_window_view(flat, self.max_length)[end - length]
        windows[np.arange(self.max_length) >= length[:, None]] = PADDING_ID
        return windows

    def _grow(self, num_users: int) -> None:
        extra = num_users - len(self._lengths)
        if extra > 0:
            # By half as much again, so that growing user by user stays cheap.
            extra = max(extra, len(self._lengths) // 2)
            shape = (extra, self.max_length)
            self._items = np.concatenate([self._items, np.zeros(shape, dtype=np.int32)])
            self._lengths = np.concatenate([self._lengths, np.zeros(extra, dtype=np.int64)])


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
