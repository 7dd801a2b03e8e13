"""The memory as a Ray actor: one process on the cluster owns the folder, and restarts by itself.

The actor is a thin wrapper of `MemoryStore`. It is rebuilt from storage in its constructor, so Ray
may kill and restart it at any time and may deliver a call again; the store applies it once. Its
name is derived from the memory's path, so two drivers on one cluster meet the same actor, where the
later one takes over. Nothing here imports torch: a restart takes a moment, not many seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from diet_ray.data.schema import Schema
from diet_ray.errors import ClusterError, DietError, DistilledSetError
from diet_ray.memory.slots import slot_schema
from diet_ray.memory.store import MemoryStore, create_memory
from diet_ray.memory.update import Ack, Commit, Position, Update
from diet_ray.storage import Folder

NAMESPACE = "diet_ray"
_LOCK_TIMEOUT_S = 30.0


class MemoryActor:
    """Wrapped by `ray.remote` in `MemoryClient`; opens the store and passes calls on to it."""

    def __init__(self, folder: Folder, identity: str, retention: int) -> None:
        self._folder = folder
        self._identity = identity
        self._retention = retention
        self._store: MemoryStore | None = None
        # A constructor that raises would be restarted for ever; the next call raises instead.
        with contextlib.suppress(DietError):
            self._opened()

    def _opened(self) -> MemoryStore:
        if self._store is None:
            # The process before this one may be dying still.
            store = MemoryStore(
                self._folder, retention=self._retention, lock_timeout_s=_LOCK_TIMEOUT_S
            )
            if store.identity != self._identity:
                store.close()
                raise DistilledSetError(
                    f"{self._folder}: another memory lies there now; on several nodes, use a "
                    "filesystem that all of them share"
                )
            self._store = store
        return self._store

    def begin(self, driver: str) -> Position:
        return self._opened().begin(driver)

    def apply(self, payload: bytes) -> Ack:
        return self._opened().apply_bytes(payload)

    def commit(self, payload: bytes) -> Ack:
        return self._opened().commit_bytes(payload)

    def slots(self) -> pa.Table:
        return self._opened().slots()

    def position(self) -> Position:
        return self._opened().position

    def last_commit(self) -> tuple[int, dict[str, bytes]] | None:
        return self._opened().last_commit()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


class MemoryClient:
    """A driver's handle of a memory: the calls of `MemoryStore`, one at a time.

    What the user can mend is raised as the `DietError` that it is; an actor that is lost for good
    or doesn't answer within `timeout_s` is a `ClusterError`, after which nothing acknowledged is
    missing: a new client goes on at the last commit.
    """

    def __init__(
        self,
        path: str | Path | Folder,
        schema: Schema,
        *,
        retention: int = 2,
        timeout_s: float = 600.0,
        detached: bool = False,
    ) -> None:
        """Finds the memory's actor or starts it, and creates the memory if there is none.

        A `detached` actor outlives its driver, else it ends with the driver that started it.
        """
        self.folder = Folder.at(path)
        self._layout = slot_schema(schema)
        self._timeout_s = timeout_s
        identity = create_memory(self.folder, schema)
        self._actor = (
            ray.remote(MemoryActor)
            .options(
                name=actor_name(self.folder),
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached" if detached else None,
                num_cpus=0,
                max_concurrency=1,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=self._placement(),
            )
            .remote(self.folder, identity, retention)
        )

    def _placement(self) -> NodeAffinitySchedulingStrategy | None:
        """Near a local folder while that node lives; if it is shared, any other will do then."""
        if not self.folder.is_local:
            return None
        return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)

    def begin(self, driver: str | None = None) -> Position:
        """Takes the memory over, back at its last commit; earlier drivers are refused from now on.

        `driver` is made up where it is left out.
        """
        return self._call(lambda a: a.begin.remote(driver or uuid.uuid4().hex))

    def apply(self, update: Update) -> Ack:
        """Applies an update once; it is durable on return."""
        payload = update.to_bytes(self._layout)
        return self._call(lambda a: a.apply.remote(payload))

    def commit(self, commit: Commit) -> Ack:
        """Ends a stage; readers see it, and a resume begins from it, on return."""
        payload = commit.to_bytes()
        return self._call(lambda a: a.commit.remote(payload))

    def slots(self) -> pa.Table:
        """All slots, updates of the open stage included."""
        return self._call(lambda a: a.slots.remote())

    @property
    def position(self) -> Position:
        return self._call(lambda a: a.position.remote())

    def last_commit(self) -> tuple[int, dict[str, bytes]] | None:
        """The last committed stage and the driver's state at its end; None before the first."""
        return self._call(lambda a: a.last_commit.remote())

    def close(self) -> None:
        """Ends the actor. What was acknowledged is on storage already."""
        with contextlib.suppress(ClusterError):
            self._call(lambda a: a.close.remote())
        ray.kill(self._actor, no_restart=True)

    def _call(self, submit: Callable[[Any], Any]) -> Any:
        """Waits for one call, so that never more than one is under way.

        Ray sends it again when the actor restarts; one that is under way twice is applied once.
        """
        try:
            return ray.get(submit(self._actor), timeout=self._timeout_s)
        except RayTaskError as e:
            if isinstance(e.cause, DietError):
                raise e.cause from None
            raise
        except GetTimeoutError:
            raise ClusterError(
                f"{self.folder}: the memory actor didn't answer within {self._timeout_s:g} s: see "
                "whether its storage responds, then run the command again; it goes on at the last "
                "committed stage"
            ) from None
        except RayError as e:
            reason = " ".join(str(e).split())[:200]
            raise ClusterError(
                f"{self.folder}: the memory actor is lost ({type(e).__name__}: {reason}): run the "
                "command again; it goes on at the last committed stage"
            ) from None


def actor_name(folder: Folder) -> str:
    """One name for one folder, whoever asks."""
    place = f"{folder.filesystem.type_name}:{folder.path}"
    return "memory-" + hashlib.sha256(place.encode()).hexdigest()[:16]
