"""The logs that methods are compared on, each prepared once.

Two are real. The others are generated, and differ in what makes architectures differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from diet_ray.data.log import PreparedLog
from diet_ray.data.schema import Schema
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.sources.synthetic import SyntheticConfig
from diet_ray.data.stages import StageConfig
from diet_ray.errors import DataError

EXAMPLES = Path(__file__).parents[2] / "examples"
TEST_FRACTION = 0.1


@dataclass(frozen=True, kw_only=True)
class LogSource:
    schema: Path
    source: SourceConfig
    stage_rows: int = 24_000


_BASE = SyntheticConfig(num_rows=266_667, seed=11)

_SYNTHETIC = {
    # Effects of pairs of fields, nothing else to speak of: expressivity decides.
    "crosses": replace(
        _BASE,
        num_users=8_000,
        num_items=2_000,
        drift=0.0,
        new_item_share=0.0,
        taste=0.4,
        crosses=1.5,
    ),
    # Tastes turn and items come and go: how fast a model follows decides.
    "drift": replace(
        _BASE,
        num_users=8_000,
        num_items=6_000,
        drift=3.0,
        new_item_share=0.9,
        taste=1.2,
        crosses=0.3,
    ),
    # A dozen rows a user, all of it taste: how embeddings learn and overfit decides.
    "ids": replace(
        _BASE,
        num_users=20_000,
        num_items=5_000,
        drift=0.3,
        new_item_share=0.2,
        taste=2.0,
        crosses=0.1,
    ),
    # A third of the labels turned around: overfitting decides.
    "noise": replace(
        _BASE, num_users=12_000, num_items=5_000, taste=1.0, crosses=0.8, label_noise=0.3
    ),
    # What was clicked lately tells what is wanted now: use of the history decides.
    "history": replace(
        _BASE,
        num_users=1_000,
        num_items=300,
        drift=0.3,
        new_item_share=0.1,
        taste=0.5,
        crosses=0.2,
        interest=1.5,
        interest_days=4.0,
    ),
}


def sources(movielens: Path | None) -> dict[str, LogSource]:
    """All logs by name; MovieLens only if the path of the user's own copy is given."""
    kuairand = SourceConfig(paths=(str(EXAMPLES / "data" / "kuairand-sample.parquet"),))
    schema = EXAMPLES / "kuairand" / "schema.yaml"
    found = {"kuairand": LogSource(schema=schema, source=kuairand, stage_rows=4_000)}
    if movielens is not None:
        source = SourceConfig(paths=(str(movielens),))
        found["movielens-1m-liked"] = LogSource(
            schema=EXAMPLES / "movielens" / "schema.yaml", source=source, stage_rows=47_000
        )
    schema = EXAMPLES / "synthetic" / "schema.yaml"
    return found | {
        name: LogSource(schema=schema, source=SourceConfig(format="synthetic", synthetic=config))
        for name, config in _SYNTHETIC.items()
    }


def open_log(name: str, source: LogSource, folder: Path) -> PreparedLog:
    """The prepared log in `folder`, prepared now if it isn't there. Needs Ray in that case."""
    path = folder / name
    try:
        return PreparedLog.open(str(path))
    except DataError:
        # Ray is needed for this alone: where the log is prepared, everything else goes without.
        from diet_ray.data.prepare import prepare

        stages = StageConfig(by="rows", rows=source.stage_rows, test_fraction=TEST_FRACTION)
        return prepare(source.source, Schema.load(source.schema), stages, path)
