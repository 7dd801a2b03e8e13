"""One shard's scores as a file, which is whole or isn't there.

    SCORES/stage=00003/shard-000017.parquet

Columns `_row`, `_timestamp`, `_label` and a column a score, in the order of the log; sorted by name
the files are in the order of the log, too. The file's metadata holds the shard's summary, so that a
resumed run doesn't read rows again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_ray.data.log import Shard
from diet_ray.errors import DataError
from diet_ray.parquet import decoding, open_parquet
from diet_ray.scoring.config import RowScore
from diet_ray.scoring.summary import Summary
from diet_ray.storage import Folder

_SUMMARY = b"diet_ray.summary"
_CARRIED = ("_row", "_timestamp", "_label")


def shard_file(shard: Shard) -> str:
    """Its name below the folder of scores."""
    return f"stage={shard.stage:05d}/shard-{shard.index:06d}.parquet"


def write_shard(
    folder: Folder,
    shard: Shard,
    rows: pa.Table,
    scores: Mapping[RowScore, np.ndarray],
    summary: Summary,
) -> None:
    """rows: the shard's encoded rows; scores (B,), features (B, K). Raises `OutputError`."""
    table = rows.select(list(_CARRIED))
    for name, values in scores.items():
        table = table.append_column(name, _column(values))
    table = table.replace_schema_metadata({_SUMMARY: summary.to_json().encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="lz4",
        # Scores hardly ever repeat.
        use_dictionary=["_label"],
        write_statistics=False,
        row_group_size=len(rows),
    )
    folder.write(shard_file(shard), memoryview(sink.getvalue()))


def read_summary(folder: Folder, shard: Shard) -> Summary:
    """Of a shard that is written. Raises `DataError` naming the file."""
    name = shard_file(shard)
    where = f"{folder}/{name}"
    with decoding(where, DataError, "delete it"):
        with folder.filesystem.open_input_file(folder.path_of(name)) as file:
            metadata = open_parquet(file).metadata
        if metadata.num_rows != shard.num_rows:
            raise ValueError(f"{metadata.num_rows} rows where the log has {shard.num_rows}")
        return Summary.from_json(metadata.metadata[_SUMMARY], where)


def _column(values: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
