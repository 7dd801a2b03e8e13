"""What a distillation run is: the log, the budget, and the settings of each step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from diet_ray.config import from_mapping, load_yaml
from diet_ray.data.intake import IntakeConfig
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.stages import StageConfig
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.distillation.refinement import RefinementConfig
from diet_ray.errors import ConfigError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.memory.addressing import AddressingConfig
from diet_ray.memory.fusion import FusionConfig
from diet_ray.models.catalogue import Candidate, recommender_class
from diet_ray.monitoring.observer import LoggerName


def default_proxies() -> tuple[Candidate, ...]:
    """Three families (crosses, products, histories): what one can't express another may.

    They learn faster than a candidate at its default, since what they miss no candidate can learn
    from them.
    """
    return (
        Candidate(name="deepfm", architecture="deepfm", learning_rate=3e-3),
        Candidate(name="pnn", architecture="pnn", learning_rate=3e-3, batch_size=256),
        Candidate(name="din", architecture="din", learning_rate=3e-3),
    )


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    schema: Path
    """The schema file; like all paths here, relative to the configuration file."""
    source: SourceConfig
    stages: StageConfig = field(default_factory=StageConfig)
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(effort="medium"))
    proxies: tuple[Candidate, ...] = field(default_factory=default_proxies)
    """Models trained along the stream, whose mean logit is the soft label; the first one leads:
    influence is scored under its weights."""
    held_out_factor: float = 2.0
    """Rows that no proxy trains on, as a multiple of the slots of a stage. Slots drawn uniformly
    are among them, so that no soft label knows the slot's own label."""
    influence: InfluenceConfig = field(default_factory=InfluenceConfig)
    addressing: AddressingConfig = field(default_factory=AddressingConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    retained_rows: int = 4096
    """Real rows of earlier stages that refinement is judged on, besides as many of the stage."""
    seed: int = 0
    kept_stages: int = 2
    """Committed stages that stay on disk, for `diet rollback`."""
    loggers: tuple[LoggerName, ...] = ()
    """Experiment trackers that get the figures of each stage; they change nothing of the result."""

    @property
    def lead(self) -> Candidate:
        """The proxy under whose weights influence is scored."""
        return self.proxies[0]

    def __post_init__(self) -> None:
        if self.kept_stages < 1:
            raise ValueError("kept_stages must be at least 1")
        if self.retained_rows < 2:
            raise ValueError("retained_rows must be at least 2")
        if not self.proxies or len({p.name for p in self.proxies}) < len(self.proxies):
            raise ValueError("proxies: at least one, and every name once")
        if any(p.without_fields for p in self.proxies):
            raise ValueError("proxies: without_fields: a proxy sees every field")
        if any(p.schedule for p in self.proxies):
            raise ValueError("proxies: schedule: a proxy's rates stay, as its log has no end")
        if own := next(
            (p.name for p in self.proxies if not recommender_class(p).reads_table), None
        ):
            raise ValueError(
                f"proxies: `{own}` has embeddings of its own, which can't grow with the log: make "
                "it a `Recommender`"
            )
        if self.seed < 0:
            raise ValueError("seed must be at least 0")
        if self.held_out_factor < 0:
            raise ValueError("held_out_factor must be at least 0")


def load_distill_config(path: str | Path) -> DistillConfig:
    """Reads a configuration file. Raises `ConfigError` naming the file and key."""
    config = from_mapping(DistillConfig, load_yaml(path), str(path))
    # The same files, wherever a later call comes from.
    base = Path(path).absolute().parent
    source = config.source
    paths = tuple(p if "://" in p or Path(p).is_absolute() else str(base / p) for p in source.paths)
    config = replace(config, schema=base / config.schema, source=replace(source, paths=paths))
    try:
        found = config.schema.is_file()
    except OSError:
        # A name that is too long, or a folder that may not be entered.
        found = False
    if not found:
        raise ConfigError(f"{path}: schema: {config.schema}: no such file")
    return config
