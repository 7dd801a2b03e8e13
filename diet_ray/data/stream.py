"""Reading a source's shards in parallel with Ray Data, and handing on their rows in order.

Ray Data maps over the *descriptions* of shards; each task reads one and sends its rows as opaque
bytes, tagged with nothing but their order. So neither the cut nor the order of rows depends on Ray
Data's blocks, and a `DietError` travels as a value: it arrives as it was raised, without a trace.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator

import pyarrow as pa
import ray.data
from ray.data import DataContext

from diet_ray import errors
from diet_ray.cluster import connect
from diet_ray.data.sources.base import Source

READ_CPUS = 0.5
"""A CPU share below one, so that reading goes on beside whatever else the cluster runs."""
MAX_TASKS = 8
"""Shards read at the same time, at most."""
BLOCK_BYTES = 16 * 1024**2
"""Ray Data's blocks; with the number of tasks this bounds the object store's use."""

_MESSAGE = pa.schema([("rows", pa.large_binary()), ("error", pa.string()), ("text", pa.string())])


def read_in_order(source: Source) -> Generator[pa.Table, None, None]:
    """All rows of a source, shard by shard. Raises the `DietError` of the first shard that fails.

    One Ray Data execution, which ends when the iterator does or is closed.
    """
    connect()
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    def read(batch: pa.Table) -> Iterator[pa.Table]:
        for index in batch["id"].to_pylist():
            yield from _messages(source, index)

    items = [{"id": i} for i in range(len(source.shards))]
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    with DataContext.current(context):
        messages = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            read,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=READ_CPUS,
            compute=ray.data.TaskPoolStrategy(size=min(MAX_TASKS, len(items))),
        )
    for block in messages.iter_batches(batch_size=None, batch_format="pyarrow"):
        for i in range(block.num_rows):
            yield _rows(block.slice(i, 1))


def _messages(source: Source, index: int) -> Iterator[pa.Table]:
    try:
        for table in source.read(source.shards[index]):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            yield pa.table([[sink.getvalue().to_pybytes()], [None], [None]], schema=_MESSAGE)
    except errors.DietError as e:
        yield pa.table([[None], [type(e).__name__], [str(e)]], schema=_MESSAGE)


def _rows(message: pa.Table) -> pa.Table:
    kind = message["error"][0].as_py()
    if kind is not None:
        raise getattr(errors, kind)(message["text"][0].as_py())
    return pa.ipc.open_stream(message["rows"][0].as_buffer()).read_all()
