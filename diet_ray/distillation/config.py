"""What a distillation run is: the log, the budget, and the settings of each step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from diet_ray.config import from_mapping, load_yaml
from diet_ray.data.sources.config import SourceConfig
from diet_ray.data.stages import StageConfig
from diet_ray.distillation.budget import BudgetConfig
from diet_ray.distillation.refinement import RefinementConfig
from diet_ray.errors import ConfigError
from diet_ray.influence.config import InfluenceConfig
from diet_ray.memory.addressing import AddressingConfig
from diet_ray.memory.fusion import FusionConfig
from diet_ray.models.catalogue import Candidate


def default_proxy() -> Candidate:
    """A plain network: fast, and of no family that its soft labels would favour much."""
    return Candidate(name="proxy", architecture="dnn", hidden_sizes=(128, 64))


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    schema: Path
    """The schema file; like all paths here, relative to the configuration file."""
    source: SourceConfig
    stages: StageConfig = field(default_factory=StageConfig)
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(fraction=0.01))
    proxy: Candidate = field(default_factory=default_proxy)
    influence: InfluenceConfig = field(default_factory=InfluenceConfig)
    addressing: AddressingConfig = field(default_factory=AddressingConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    retained_rows: int = 4096
    """Real rows of earlier stages that refinement is judged on, besides as many of the stage."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.retained_rows < 2:
            raise ValueError("retained_rows must be at least 2")
        if self.proxy.without_fields:
            raise ValueError("proxy: without_fields: a proxy sees every field")


def load_distill_config(path: str | Path) -> DistillConfig:
    """Reads a configuration file. Raises `ConfigError` naming the file and key."""
    config = from_mapping(DistillConfig, load_yaml(path), str(path))
    base = Path(path).parent
    source = config.source
    paths = tuple(p if "://" in p or Path(p).is_absolute() else str(base / p) for p in source.paths)
    config = replace(config, schema=base / config.schema, source=replace(source, paths=paths))
    if not config.schema.exists():
        raise ConfigError(f"{path}: schema: {config.schema}: no such file")
    return config
