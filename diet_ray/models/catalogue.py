"""Candidates: which architecture at which hyper-parameters, and how a model is built from one."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from diet_ray.config import to_mapping
from diet_ray.data.batch import FeatureSpec
from diet_ray.data.selection import FieldSelection, select_fields
from diet_ray.documents import cut, suggestion
from diet_ray.errors import ConfigError
from diet_ray.models.afm import AFM
from diet_ray.models.autoint import AutoInt
from diet_ray.models.autoint_plus import AutoIntPlus
from diet_ray.models.base import Recommender, vocabulary_names
from diet_ray.models.bst import BST
from diet_ray.models.dcn import DCN
from diet_ray.models.dcnv2 import DCNv2
from diet_ray.models.dcnv3 import DCNv3
from diet_ray.models.deepfm import DeepFM
from diet_ray.models.destine import DESTINE
from diet_ray.models.dien import DIEN
from diet_ray.models.din import DIN
from diet_ray.models.dnn import DNN
from diet_ray.models.edcn import EDCN
from diet_ray.models.fibinet import FiBiNET
from diet_ray.models.final import FINAL
from diet_ray.models.finalmlp import FinalMLP
from diet_ray.models.fm import FM
from diet_ray.models.fmfm import FmFM
from diet_ray.models.fwfm import FwFM
from diet_ray.models.gdcn import GDCN
from diet_ray.models.hstu import HSTU
from diet_ray.models.lr import LR
from diet_ray.models.masknet import MaskNet
from diet_ray.models.nfm import NFM
from diet_ray.models.pnn import PNN
from diet_ray.models.sim import SIM
from diet_ray.models.transact import TransAct
from diet_ray.models.wide_deep import WideDeep
from diet_ray.models.wrapped import wrapped
from diet_ray.models.xdeepfm import XDeepFM
from diet_ray.training.config import OptimizerConfig, Rates

ARCHITECTURES: dict[str, type[Recommender]] = {
    "lr": LR,
    "fm": FM,
    "dnn": DNN,
    "wide_deep": WideDeep,
    "deepfm": DeepFM,
    "nfm": NFM,
    "dcn": DCN,
    "dcnv2": DCNv2,
    "pnn": PNN,
    "autoint": AutoInt,
    "finalmlp": FinalMLP,
    "din": DIN,
    "xdeepfm": XDeepFM,
    "fibinet": FiBiNET,
    "masknet": MaskNet,
    "final": FINAL,
    "dcnv3": DCNv3,
    "fwfm": FwFM,
    "fmfm": FmFM,
    "afm": AFM,
    "edcn": EDCN,
    "gdcn": GDCN,
    "destine": DESTINE,
    "autoint_plus": AutoIntPlus,
    "dien": DIEN,
    "sim": SIM,
    "bst": BST,
    "hstu": HSTU,
    "transact": TransAct,
}

_NUM_CORE = 12
MAX_EMBEDDING_SIZE = 4_096
MAX_LAYERS = 64
MAX_CELLS = 2**26
"""A candidate is built to be checked: none may take the memory of whoever reads its file."""
_PROBE = FeatureSpec(categorical=("probe",), num_ids=(3,), numeric=(), sequence=())


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One architecture with its hyper-parameters; those that its class doesn't take are ignored.

    Raises `ConfigError` naming the candidate for an unknown architecture or a value that no model
    can be built with.
    """

    name: str
    architecture: str
    """A key of `ARCHITECTURES`, or `module:Class` for a class of your own: a `Recommender`, or
    any module, see `diet_ray.models.wrapped`."""
    embedding_size: int = 16
    hidden_sizes: tuple[int, ...] = (128, 64)
    dropout: float = 0.0
    num_cross_layers: int = 2
    """Layers of explicit interactions: cross layers, self-attention, transformer layers; the table
    in `docs/algorithm.md` says which, by architecture."""
    num_heads: int = 2
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    beta1: float = OptimizerConfig.beta1
    beta2: float = OptimizerConfig.beta2
    epsilon: float = OptimizerConfig.epsilon
    batch_size: int = 512
    without_fields: tuple[str, ...] = ()
    """Fields of the log that the model doesn't get to see."""
    field_embedding_sizes: dict[str, int] = field(default_factory=dict, hash=False)
    """By field with ids of its own, an embedding size of up to `embedding_size`, which all others
    have. Smaller embeddings are padded with zeros, so that all fields meet at one width. A sequence
    that shares a field's ids shares its embeddings. For architectures that take
    `embedding_size`."""
    schedule: tuple[Rates, ...] = ()
    """Rates that take the place of the candidate's own on the way, in order."""

    def __post_init__(self) -> None:
        sizes = (self.embedding_size, self.num_cross_layers, self.num_heads, self.batch_size)
        if min(sizes) < 1 or not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ConfigError(
                f"candidate `{self.name}`: embedding_size, hidden_sizes, num_cross_layers, "
                "num_heads and batch_size must be at least 1"
            )
        cells = sum(a * b for a, b in pairwise(self.hidden_sizes)) + max(self.hidden_sizes)
        if (
            cells > MAX_CELLS
            or self.embedding_size > MAX_EMBEDDING_SIZE
            or max(len(self.hidden_sizes), self.num_cross_layers, self.num_heads) > MAX_LAYERS
        ):
            raise ConfigError(
                f"candidate `{self.name}`: too large: embedding_size may be {MAX_EMBEDDING_SIZE}, "
                f"num_heads, num_cross_layers and the number of hidden_sizes {MAX_LAYERS}, hidden "
                f"layers {MAX_CELLS} weights at most"
            )
        for name, size in self.field_embedding_sizes.items():
            if not 1 <= size <= self.embedding_size:
                raise ConfigError(
                    f"candidate `{self.name}`: field_embedding_sizes: {cut(name)}: must lie from 1 "
                    f"to embedding_size, {self.embedding_size}, found {size}"
                )
        # Names, records and draws shall not depend on the order in which fields are given.
        in_order = dict(sorted(self.field_embedding_sizes.items()))
        object.__setattr__(self, "field_embedding_sizes", in_order)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"candidate `{self.name}`: dropout must lie in [0, 1)")
        begins = [rates.begin for rates in self.schedule]
        if any(a >= b for a, b in pairwise(begins)):
            raise ConfigError(f"candidate `{self.name}`: schedule: each must begin after the last")
        if any((rates.dropout > 0) != (self.dropout > 0) for rates in self.schedule):
            raise ConfigError(
                f"candidate `{self.name}`: schedule: dropout must be above 0 where the candidate's "
                "is, and only there: a model has its dropout layers or hasn't"
            )
        try:
            _ = self.optimizer
        except ValueError as e:
            raise ConfigError(f"candidate `{self.name}`: {e}") from None
        if self.architecture in ARCHITECTURES:
            _construct(self, _PROBE, seed=0)
        else:
            # A model of one's own may count on fields that only its log has.
            _ = self.arguments

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )

    def rates_at(self, num_done: int, num_planned: int) -> Rates:
        """Those of the next step of a run, when so many of its steps or rows are done."""
        begun = [r for r in self.schedule if int(num_planned * r.begin) <= num_done]
        return begun[-1] if begun else self.first_rates

    @property
    def first_rates(self) -> Rates:
        """The candidate's own."""
        return Rates(
            begin=0.0,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """The hyper-parameters that the architecture's constructor takes, beside the features."""
        known = {f.name for f in fields(self)}
        taken = list(inspect.signature(recommender_class(self)).parameters)[1:]
        for name in taken:
            if name not in known:
                raise ConfigError(
                    f"candidate `{self.name}`: {self.architecture} takes `{name}`, which no "
                    f"candidate has; give it a default by a subclass"
                )
        return {name: getattr(self, name) for name in taken}

    @property
    def smaller_fields(self) -> dict[str, int]:
        """Those of `field_embedding_sizes` that change the model."""
        if "embedding_size" not in self.arguments or not recommender_class(self).reads_table:
            return {}
        sizes = self.field_embedding_sizes.items()
        return {name: size for name, size in sizes if size < self.embedding_size}

    @property
    def identity(self) -> str:
        """Equal for candidates that are one model, trained alike, under several names."""
        training = ["learning_rate", "weight_decay", "batch_size"]
        # Only where they differ from their defaults: results on record go by this.
        training += [
            f.name
            for f in fields(self)
            if f.name in ("beta1", "beta2", "epsilon", "without_fields", "schedule")
            and getattr(self, f.name) != f.default
        ]
        values = self.arguments | {name: getattr(self, name) for name in training}
        if self.smaller_fields:
            values["field_embedding_sizes"] = self.smaller_fields
        return f"{self.architecture}({', '.join(f'{k}={v}' for k, v in values.items())})"


def recommender_class(candidate: Candidate) -> type[Recommender]:
    """The class that `candidate.architecture` names. Raises `ConfigError` naming the nearest."""
    architecture, where = candidate.architecture, f"candidate `{cut(candidate.name)}`"
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    module, colon, name = architecture.partition(":")
    if not colon:
        hint = suggestion(cut(architecture).lower(), ARCHITECTURES, cutoff=0.4)
        raise ConfigError(f"{where}: unknown architecture `{cut(architecture)}`; {hint}")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as e:
        # Whatever its module raises when it is run.
        raise ConfigError(
            f"{where}: can't import architecture `{architecture}`: {cut(str(e))}"
        ) from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"{where}: `{architecture}` is no subclass of torch.nn.Module")
    return found if issubclass(found, Recommender) else wrapped(found)  # type: ignore[arg-type]


def fields_of(candidate: Candidate, features: FeatureSpec) -> FieldSelection:
    """Which of a log's fields the candidate sees. Raises `ConfigError` naming the candidate."""
    try:
        selection = select_fields(features, candidate.without_fields)
    except ConfigError as e:
        raise ConfigError(f"candidate `{candidate.name}`: {e}") from None
    _check_field_sizes(candidate, selection.features)
    return selection


def _check_field_sizes(candidate: Candidate, features: FeatureSpec) -> None:
    """Raises `ConfigError` for a size of what has no embeddings of its own."""
    where = f"candidate `{candidate.name}`: field_embedding_sizes"
    known = vocabulary_names(features)
    targets = {s.name: s.target for s in features.sequence}
    for name in candidate.field_embedding_sizes:
        if name in known or name in candidate.without_fields:
            continue
        if name in features.numeric:
            raise ConfigError(f"{where}: `{name}` is numeric: its size is embedding_size")
        if name in targets:
            raise ConfigError(
                f"{where}: `{name}` shares the ids of `{targets[name]}`: give that one a size"
            )
        hint = suggestion(cut(name), known, "fields with ids")
        raise ConfigError(f"{where}: no field `{cut(name)}`; {hint}")


def narrow_sizes(candidate: Candidate, features: FeatureSpec) -> dict[str, int]:
    """Embedding sizes below the common one, by vocabulary, for the fields that the model sees."""
    known = vocabulary_names(features)
    return {name: size for name, size in candidate.smaller_fields.items() if name in known}


def build(candidate: Candidate, features: FeatureSpec, seed: int) -> Recommender:
    """The candidate's model for a log's features, with first weights that depend on `seed` alone.

    It takes batches as `fields_of` leaves them. Leaves torch's random state as it was. Raises
    `ConfigError` naming the candidate.
    """
    selected = fields_of(candidate, features).features
    model = _construct(candidate, selected, seed)
    model.table.narrow(narrow_sizes(candidate, selected))
    return model


def _construct(candidate: Candidate, features: FeatureSpec, seed: int) -> Recommender:
    constructor: Any = recommender_class(candidate)
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        return constructor(features, **candidate.arguments)
    except (ValueError, RuntimeError, MemoryError) as e:
        # RuntimeError is what PyTorch raises when there is no memory for it.
        raise ConfigError(f"candidate `{candidate.name}`: {cut(str(e))}") from None
    finally:
        generator.set_state(state)


def completed(written: Any) -> Any:
    """What a file holds of a candidate, with the defaults of keys that are newer than the file."""
    if not isinstance(written, dict):
        return written
    return to_mapping(Candidate(name="", architecture="lr")) | written


def num_parameters(model: Recommender) -> int:
    """All trainable numbers, the table's padding rows included, its padding columns not."""
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return total - sum(columns.numel() for columns in model.table.padding_columns())


def default_candidates() -> tuple[Candidate, ...]:
    """Every architecture once, at its default size."""
    return tuple(Candidate(name=name, architecture=name) for name in ARCHITECTURES)


def core_candidates() -> tuple[Candidate, ...]:
    """The twelve of `default_candidates` that the published figures are over."""
    return default_candidates()[:_NUM_CORE]
