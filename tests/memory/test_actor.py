from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from diet_ray.errors import ClusterError, DistilledSetError
from diet_ray.memory.actor import MemoryClient, actor_name
from diet_ray.memory.snapshot import read_committed
from diet_ray.memory.store import MemoryStore
from diet_ray.memory.update import Update
from diet_ray.storage import Folder
from tests.memory.small_memory import Driver, click_schema, make_slots


@pytest.fixture
def client(ray_cluster: None, tmp_path: Path) -> Iterator[MemoryClient]:
    client = MemoryClient(tmp_path / "memory", click_schema(), timeout_s=120)
    yield client
    client.close()


def actor_of(client: MemoryClient) -> ray.actor.ActorHandle:
    return ray.get_actor(actor_name(client.folder), namespace="diet_ray")


def hold_up(client: MemoryClient, pipe: Path) -> ray.ObjectRef:
    """A call that reads from a pipe, and so answers no other call before someone writes to it."""
    os.mkfifo(pipe)
    return actor_of(client).__ray_call__.remote(lambda actor: pipe.read_text())


def test_an_actor_killed_again_and_again_equals_one_that_never_was(
    client: MemoryClient, tmp_path: Path
) -> None:
    calls = 0

    def kill(stage: int, sequence: int) -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 3, 8):
            # The call that follows at once finds the actor dying or dead, and is sent again.
            ray.kill(actor_of(client), no_restart=False)

    Driver(before_call=kill).run(client)

    plain = MemoryStore(tmp_path / "plain", click_schema())
    Driver().run(plain)
    assert client.slots().equals(plain.slots())
    assert client.last_commit() == plain.last_commit()
    assert client.position == plain.position
    committed = read_committed(client.folder)
    assert committed is not None
    assert committed[1].equals(plain.slots())


def test_a_later_driver_shuts_out_the_earlier_one(client: MemoryClient) -> None:
    first = client.begin()
    update = Update(epoch=first.epoch, stage=0, sequence=0, added=make_slots(2))
    client.apply(update)
    second = MemoryClient(client.folder, click_schema())
    assert second.begin().epoch == first.epoch + 1
    assert second.slots().num_rows == 0
    with pytest.raises(DistilledSetError, match="has taken over this memory") as caught:
        client.apply(Update(epoch=first.epoch, stage=0, sequence=1))
    assert type(caught.value) is DistilledSetError


def test_what_the_constructor_finds_is_told_by_the_first_call(
    ray_cluster: None, tmp_path: Path
) -> None:
    client = MemoryClient(tmp_path, click_schema())
    client.begin("driver")
    client.close()
    (segment,) = (tmp_path / "log").iterdir()
    segment.write_bytes(b"broken")
    client = MemoryClient(tmp_path, click_schema())
    with pytest.raises(DistilledSetError, match=f"{segment.name}: damaged at byte 0"):
        client.begin("driver")
    client.close()


def test_an_actor_lost_for_good_is_a_cluster_error(ray_cluster: None, tmp_path: Path) -> None:
    client = MemoryClient(tmp_path, click_schema())
    client.begin()
    hold_up(client, tmp_path / "pipe")
    ray.kill(actor_of(client), no_restart=True)
    with pytest.raises(ClusterError, match=r"memory actor is lost.*last committed stage"):
        client.slots()
    again = MemoryClient(tmp_path, click_schema())
    assert again.begin().epoch == 2
    again.close()


def test_an_actor_that_doesn_t_answer_is_a_cluster_error(
    client: MemoryClient, tmp_path: Path
) -> None:
    client.begin()
    pipe = tmp_path / "pipe"
    stuck = hold_up(client, pipe)
    impatient = MemoryClient(client.folder, click_schema(), timeout_s=0.1)
    with pytest.raises(ClusterError, match=r"didn't answer within 0\.1 s"):
        impatient.slots()
    pipe.write_text("go on")
    assert ray.get(stuck) == "go on"


def test_names_tell_folders_apart(tmp_path: Path) -> None:
    names = {actor_name(Folder.at(tmp_path / n)) for n in ("a", "b")}
    assert len(names) == 2
    assert actor_name(Folder.at(f"{tmp_path}/a/../b")) == actor_name(Folder.at(tmp_path / "b"))


def test_the_actor_starts_without_torch() -> None:
    program = "import diet_ray.memory.actor, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
