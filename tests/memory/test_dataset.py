from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from diet_ray.data.batch import Batch, FeatureSpec, SequenceSpec
from diet_ray.data.encoding import encoded_schema
from diet_ray.data.schema import Schema
from diet_ray.errors import DistilledSetError
from diet_ray.memory.compact import rounded
from diet_ray.memory.dataset import DistilledDataset, SlotRow
from diet_ray.memory.manifest import Description
from diet_ray.memory.publish import CRASH_POINTS, publish
from diet_ray.memory.slots import canonical, slot_schema, with_columns
from diet_ray.storage import Folder, sha256
from diet_ray.training.recipe import Recipe
from tests.memory.small_memory import NUM_IDS, click_schema, make_slots

Publish = Callable[..., None]


def shipped(n: int) -> pa.Table:
    """The slots that `put` publishes."""
    return rounded(make_slots(n, stage=1))


def features(num_ids: int = NUM_IDS) -> FeatureSpec:
    return FeatureSpec(
        categorical=("user", "item"),
        num_ids=(num_ids, num_ids),
        numeric=("price",),
        sequence=(SequenceSpec(name="watched", max_length=3, target="item", num_ids=num_ids),),
    )


def description(schema: Schema | None = None) -> Description:
    return Description(
        schema=schema or click_schema(),
        features=features(),
        recipe=Recipe(residual_share=0.5),
        proxies=({"architecture": "dnn", "hidden_sizes": [128, 64]},),
        budget={"fraction": 0.01},
        source_fingerprint="abc",
        num_rows_seen=2000,
        source_bytes=100_000,
        stages=({"stage": 0, "rows": 1000}, {"stage": 1, "rows": 1000}),
    )


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """As a prepared log has it: in order of appearance, some values not admitted, some later."""
    folder = tmp_path / "log" / "vocabulary"
    folder.mkdir(parents=True)
    for name in ("user", "item"):
        ids = [1, *range(NUM_IDS + 3, 1, -1), 1]
        values = [f"{name} {i}" if i > 1 else f"rare {k}" for k, i in enumerate(ids)]
        table = pa.table({"value": values, "id": pa.array(ids, pa.int32()), "count": ids})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


@pytest.fixture
def put(tmp_path: Path, vocabulary: Path) -> Publish:
    """Publishes n slots to the folder `set`."""

    def put(n: int = 20, hook: Callable[[str], None] = lambda name: None) -> None:
        slots = make_slots(n, stage=1)
        publish(tmp_path / "set", slots, description(), vocabulary=vocabulary, on_crash_point=hook)

    return put


def test_slots_are_encoded_rows_and_more() -> None:
    rows = encoded_schema(click_schema())
    slots = make_slots(3)
    encoded = slots.select(rows.names).cast(rows)
    assert slots.column_names[: len(rows)] == rows.names
    again = pa.table({n: (encoded if n in rows.names else slots)[n] for n in slots.column_names})
    assert canonical(again, slot_schema(click_schema())).equals(slots)


def test_what_is_published_is_what_is_loaded(tmp_path: Path, put: Publish) -> None:
    put(20)
    dataset = DistilledDataset.load(tmp_path / "set")
    assert dataset.slots.equals(shipped(20))
    assert dataset.schema == click_schema()
    assert dataset.features == features()
    assert dataset.recipe == Recipe(residual_share=0.5)
    assert dataset.manifest.stages[1] == {"stage": 1, "rows": 1000}
    assert dataset.manifest.proxies[0]["hidden_sizes"] == [128, 64]
    assert dataset.num_slots == 20
    assert dataset.row_fraction == 0.01
    assert dataset.manifest.total_weight == float(
        make_slots(20, stage=1)["_weight"].to_numpy().sum()
    )


def test_bytes_are_those_of_the_files(tmp_path: Path, put: Publish) -> None:
    put()
    dataset = DistilledDataset.load(tmp_path / "set")
    account = dataset.manifest.num_bytes
    assert account.slots == (tmp_path / "set" / "memory.parquet").stat().st_size
    values = sum(p.stat().st_size for p in (tmp_path / "set" / "vocabulary").iterdir())
    assert account.vocabularies == values
    assert account.codebooks == account.embeddings == 0
    assert dataset.byte_fraction == (account.slots + values) / 100_000


def test_slots_lie_in_time_order(tmp_path: Path, vocabulary: Path) -> None:
    slots = with_columns(make_slots(4), {"_timestamp": np.array([5, 3, 3, 1])})
    slots = with_columns(slots, {"_row": np.array([0, 9, 8, 7])})
    publish(tmp_path / "set", slots, description(), vocabulary=vocabulary)
    dataset = DistilledDataset.load(tmp_path / "set")
    assert dataset.slots["_slot"].to_pylist() == [3, 2, 1, 0]
    assert dataset.weights.tolist() == slots["_weight"].to_pylist()[::-1]


def test_targets_by_hand(tmp_path: Path, vocabulary: Path) -> None:
    slots = with_columns(
        make_slots(2), {"_soft_label": np.array([0.0, 2.0]), "_residual": np.array([0.5, -0.25])}
    )
    publish(tmp_path / "set", slots, description(), vocabulary=vocabulary)
    dataset = DistilledDataset.load(tmp_path / "set")
    assert dataset.targets(0.0).tolist() == pytest.approx([0.5, 0.880797])
    assert dataset.targets(1.0).tolist() == pytest.approx([1.0, 0.630797])
    assert dataset.targets().tolist() == pytest.approx([0.75, 0.755797])


def test_torch_dataset_gives_batches_that_models_take(tmp_path: Path, put: Publish) -> None:
    put(20)
    dataset = DistilledDataset.load(tmp_path / "set")
    rows = list(DataLoader(dataset.to_torch(), batch_size=8))
    assert [len(r.label) for r in rows] == [8, 8, 4]
    assert all(isinstance(r, SlotRow) for r in rows)
    whole = dataset.batch()
    joined = Batch(*(torch.cat([r[i] for r in rows]) for i in range(4)))
    for name in ("categorical", "numeric", "sequence", "label"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    assert torch.equal(torch.cat([r.target for r in rows]), dataset.targets())
    assert torch.equal(torch.cat([r.weight for r in rows]), dataset.weights.float())
    assert whole.sequence.shape == (20, 1, 3)


def test_pandas_frame_encoded_and_decoded(tmp_path: Path, vocabulary: Path) -> None:
    slots = with_columns(
        make_slots(2),
        {
            "item": np.array([1, 2]),
            "user": np.array([49, 3]),
            "watched": np.array([[2, 1, 0], [0, 0, 0]]),
        },
    )
    publish(tmp_path / "set", slots, description(), vocabulary=vocabulary)
    dataset = DistilledDataset.load(tmp_path / "set")
    encoded = dataset.to_pandas()
    assert encoded["item"].tolist() == [1, 2]
    assert [list(v) for v in encoded["watched"]] == [[2, 1, 0], [0, 0, 0]]
    decoded = dataset.to_pandas(decode=True)
    assert decoded["item"].isna().tolist() == [True, False]
    assert decoded["item"][1] == "item 2"
    assert decoded["user"].tolist() == ["user 49", "user 3"]
    assert decoded["watched"].tolist() == [["item 2", None], []]
    assert decoded["price"].tolist() == encoded["price"].tolist()
    assert len(decoded) == 2


def test_only_values_of_the_slots_ship_and_keep_their_ids(tmp_path: Path, vocabulary: Path) -> None:
    slots = with_columns(
        make_slots(2),
        {
            "user": np.array([49, 1]),
            "item": np.array([7, 3]),
            "watched": np.array([[30, 7, 0], [1, 0, 0]]),
        },
    )
    publish(tmp_path / "set", slots, description(), vocabulary=vocabulary)
    dataset = DistilledDataset.load(tmp_path / "set")
    values = {name: table["value"].to_pylist() for name, table in dataset.vocabularies.items()}
    # A sequence that shares a field's vocabulary has its items shipped there.
    assert values == {"user": ["user 49"], "item": ["item 3", "item 7", "item 30"]}
    assert dataset.vocabularies["item"]["id"].to_pylist() == [3, 7, 30]
    assert dataset.features.num_ids == (NUM_IDS, NUM_IDS)


def test_the_memory_s_own_slots_are_not_rounded(tmp_path: Path, vocabulary: Path) -> None:
    slots = make_slots(3)
    publish(tmp_path / "set", slots, description(), vocabulary=vocabulary)
    assert slots.equals(make_slots(3))
    assert not slots.equals(rounded(slots))


def test_a_set_of_the_version_before_loads(tmp_path: Path, put: Publish) -> None:
    """Version 2 had exact slots, every value of a vocabulary, and no say on encodings."""
    put(20)
    folder, slots = Folder.at(tmp_path / "set"), make_slots(20, stage=1)
    folder.write_table("memory.parquet", slots)
    for name in ("user", "item"):
        ids = range(2, NUM_IDS)
        values = [f"{name} {i}" for i in ids]
        table = pa.table(
            {"value": values, "id": pa.array(ids, pa.int32()), "count": [1] * len(ids)}
        )
        folder.write_table(f"vocabulary/{name}.parquet", table)
    manifest = json.loads(folder.read("manifest.json"))
    for name in manifest["files"]:
        content = folder.read(name)
        manifest["files"][name] = {"num_bytes": len(content), "sha256": sha256(content)}
    folder.write("manifest.json", json.dumps(manifest | {"format_version": 2}).encode())
    dataset = DistilledDataset.load(folder)
    assert dataset.slots.equals(slots)
    decoded = dataset.to_pandas(decode=True)["user"].dropna().tolist()
    assert decoded == [f"user {i}" for i in slots["user"].to_pylist() if i > 1]


def test_any_parquet_reader_opens_it(tmp_path: Path, put: Publish) -> None:
    put(20)
    assert pq.read_table(tmp_path / "set" / "memory.parquet").equals(shipped(20))
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == [
        *("manifest.json", "memory.parquet", "vocabulary")
    ]


class Crash(BaseException):
    pass


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_leaves_the_old_set_or_the_new(point: str, tmp_path: Path, put: Publish) -> None:
    def hook(name: str) -> None:
        if name == point:
            raise Crash

    put(20)
    with pytest.raises(Crash):
        put(30, hook)
    published = CRASH_POINTS.index(point) >= CRASH_POINTS.index("publish.after-manifest")
    assert DistilledDataset.load(tmp_path / "set").num_slots == (30 if published else 20)
    # Crashing again, and on other content, changes nothing about that.
    with pytest.raises(Crash):
        put(40, hook)
    assert DistilledDataset.load(tmp_path / "set").num_slots == (40 if published else 20)
    put(50)
    assert DistilledDataset.load(tmp_path / "set").slots.equals(shipped(50))
    assert not (tmp_path / "set" / ".previous").exists()


def test_the_first_publication_is_there_only_when_complete(tmp_path: Path, put: Publish) -> None:
    def hook(name: str) -> None:
        if name == "publish.before-manifest":
            raise Crash

    with pytest.raises(Crash):
        put(20, hook)
    with pytest.raises(DistilledSetError, match=r"manifest\.json: no such file"):
        DistilledDataset.load(tmp_path / "set")


def test_readers_never_see_a_mix(tmp_path: Path, put: Publish) -> None:
    put(10)
    ended = threading.Event()
    loaded = threading.Event()
    errors: list[BaseException] = []

    def read(sizes: list[int]) -> None:
        while not ended.is_set():
            try:
                dataset = DistilledDataset.load(tmp_path / "set")
                assert dataset.slots.equals(shipped(dataset.num_slots))
                sizes.append(dataset.num_slots)
                loaded.set()
            except BaseException as e:
                errors.append(e)
                return

    seen: tuple[list[int], list[int]] = ([], [])
    readers = [threading.Thread(target=read, args=(sizes,)) for sizes in seen]
    for reader in readers:
        reader.start()
    for n in range(11, 25):
        loaded.clear()
        put(n)
        # A reader that is overtaken again and again gives up.
        assert loaded.wait(timeout=60), errors
    ended.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert sum(map(len, seen)) > 1
    assert all(sizes == sorted(sizes) for sizes in seen)
    assert max(map(max, filter(None, seen))) <= 24


@pytest.mark.parametrize("name", ["memory.parquet", "vocabulary/item.parquet"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path, put: Publish) -> None:
    put()
    path = tmp_path / "set" / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(DistilledSetError, match=f"{name}: missing, or not what manifest.json says"):
        DistilledDataset.load(tmp_path / "set")


def test_a_folder_without_a_set(tmp_path: Path) -> None:
    with pytest.raises(DistilledSetError, match=r"manifest\.json: no such file"):
        DistilledDataset.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "format version 9, this program reads 2 and 3"),
        ({"budgett": 1}, "unknown key `budgett`; did you mean `budget`"),
        ({"num_slots": "many"}, "num_slots: expected a whole number"),
        ({"num_slots": 7}, r"memory\.parquet: 20 slots where manifest\.json says 7"),
        ({"num_rows_seen": 0}, "must be above 0"),
        ({"recipe": {"epochs": 0}}, "recipe: epochs must lie"),
        ({"files": {}}, r"names no memory\.parquet"),
        (
            {"files": {"../../etc/passwd": {"num_bytes": 1, "sha256": ""}}},
            "no name inside this folder",
        ),
    ],
)
def test_a_broken_manifest_is_named(
    change: dict[str, object], message: str, tmp_path: Path, put: Publish
) -> None:
    put()
    path = tmp_path / "set" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DistilledSetError, match=message):
        DistilledDataset.load(tmp_path / "set")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}'])
def test_noise_is_no_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    says = r"manifest\.json: (can't be read as JSON|expected a JSON object|no manifest)"
    with pytest.raises(DistilledSetError, match=says):
        DistilledDataset.load(tmp_path)


def test_slots_that_don_t_fit_are_not_published(tmp_path: Path, vocabulary: Path) -> None:
    broken = with_columns(make_slots(3), {"item": np.array([2, NUM_IDS, 2])})
    with pytest.raises(DistilledSetError, match="slot 1: column `item` must be ids from 0 to 49"):
        publish(tmp_path / "set", broken, description(), vocabulary=vocabulary)
    assert not (tmp_path / "set").exists()


def test_a_vocabulary_of_another_log_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    larger = replace(description(), features=features(NUM_IDS + 40))
    with pytest.raises(DistilledSetError, match=r"item\.parquet|user\.parquet"):
        publish(tmp_path / "set", make_slots(3), larger, vocabulary=vocabulary)
