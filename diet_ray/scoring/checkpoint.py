"""A trained model as a file: what scores are taken under.

A safetensors file holds the weights, and Adam's second moments if there are any; its metadata says
which candidate the model is and which fields and ids it knows. A plain state dict (safetensors, or
what `torch.save` wrote) does as well for a candidate that is given beside it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.batch import FeatureSpec
from diet_ray.distillation.proxy import Proxy
from diet_ray.documents import cut, parse_json, shown
from diet_ray.errors import ConfigError, DataError
from diet_ray.models.base import TABLE_WEIGHT, Recommender, block_sizes
from diet_ray.models.catalogue import Candidate, build
from diet_ray.models.growth import copy_blocks, grow
from diet_ray.storage import Folder
from diet_ray.tensor_file import parse_tensors

_METADATA = "diet_ray"
_WEIGHT, _MOMENT = "model.", "second_moment."


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    name: str
    candidate: Candidate
    features: FeatureSpec
    """What it was trained on; a log may have more ids since."""
    weights: Mapping[str, Tensor]
    """A state dict."""
    second_moments: Mapping[str, Tensor] | None = None
    """v̂, Adam's bias-corrected mean squared gradients, by parameter name."""

    @classmethod
    def of_proxy(cls, proxy: Proxy, name: str) -> Checkpoint:
        state, beta2 = proxy.optimizer.state_dict(), proxy.candidate.optimizer.beta2
        correction = 1.0 - beta2 ** float(state["step"])
        moments = {
            key.removesuffix(".exp_avg_sq"): value.cpu() / correction if correction else value.cpu()
            for key, value in state.items()
            if key.endswith(".exp_avg_sq")
        }
        return cls(
            name=name,
            candidate=proxy.candidate,
            features=proxy.model.features,
            weights=proxy.weights(),
            second_moments=moments,
        )

    def model(self, features: FeatureSpec) -> Recommender:
        """The model for a log's `features`; ids that it never saw have their first values.

        Raises `ConfigError` naming the checkpoint if its weights are another model's, `DataError`
        if they are another log's or not finite.
        """
        table = self.weights.get(TABLE_WEIGHT)
        # Before a table is made: a file may claim any number of ids.
        if table is None or table.ndim != 2 or len(table) != sum(block_sizes(self.features)):
            raise ConfigError(f"{self.name}: `{TABLE_WEIGHT}` hasn't a row for each of its ids")
        model = build(self.candidate, self.features, seed=0)
        try:
            model.load_state_dict(dict(self.weights))
        except (RuntimeError, KeyError) as e:
            reason = " ".join(str(e).split())
            raise ConfigError(
                f"{self.name}: not the weights of candidate `{self.candidate.name}`: {reason}"
            ) from None
        for key, value in model.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise DataError(
                    f"{self.name}: `{key}` is not finite: the training has diverged; take an "
                    "earlier checkpoint, or lower the learning rate"
                )
        if any(bool(columns.any()) for columns in model.table.padding_columns()):
            raise ConfigError(
                f"{self.name}: not the weights of candidate `{self.candidate.name}`: embeddings "
                "are larger than field_embedding_sizes say"
            )
        try:
            return model if features == self.features else grow(model, features, seed=0)
        except DataError as e:
            raise DataError(f"{self.name}: {e}") from None

    def moments_for(self, model: Recommender) -> dict[str, Tensor] | None:
        """`second_moments` in the shapes of a model that may have grown: zero for new ids.

        Zero for padding, too, which gradients reach but never move. Raises `ConfigError` naming the
        checkpoint if they are another model's.
        """
        if self.second_moments is None:
            return None
        old = build(self.candidate, self.features, seed=0)
        shapes = {name: p.shape for name, p in old.named_parameters() if p.numel()}
        found = {name: v.shape for name, v in self.second_moments.items() if v.numel()}
        if found != shapes:
            wrong = sorted(n for n in found.keys() | shapes if found.get(n) != shapes.get(n))
            raise ConfigError(
                f"{self.name}: the second moments of {', '.join(wrong)} are not those of candidate "
                f"`{self.candidate.name}`: save the checkpoint again"
            )
        moments = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        moments |= {
            name: self.second_moments[name].float() for name in shapes if name != TABLE_WEIGHT
        }
        table = moments[TABLE_WEIGHT]
        copy_blocks(
            self.second_moments[TABLE_WEIGHT], old.table.block_sizes, table, model.table.block_sizes
        )
        table[list(model.table.block_starts)] = 0.0
        return moments

    def save(self, path: Path) -> None:
        """Writes the file at once. Raises `OutputError`."""
        tensors = {_WEIGHT + k: v.contiguous() for k, v in self.weights.items()}
        for k, v in (self.second_moments or {}).items():
            tensors[_MOMENT + k] = v.contiguous()
        about = {"candidate": to_mapping(self.candidate), "features": to_mapping(self.features)}
        content = safetensors.torch.save(tensors, {_METADATA: json.dumps(about)})
        Folder.at(path.parent).write(path.name, content)

    @classmethod
    def load(
        cls, path: Path, features: FeatureSpec, candidate: Candidate | None = None
    ) -> Checkpoint:
        """Reads a file. A plain state dict needs `candidate`, and fits the log's `features`.

        Raises `DataError` or `ConfigError` naming the file.
        """
        tensors, about = _read(path)
        if about is None:
            if candidate is None:
                raise ConfigError(
                    f"{path}: doesn't say which model it holds: give its candidate "
                    "(--candidates FILE --candidate NAME)"
                )
            return cls(name=str(path), candidate=candidate, features=features, weights=tensors)
        _refuse_code(about["candidate"], candidate, path)
        own = from_mapping(Candidate, about["candidate"], f"{path}: candidate")
        if candidate is not None and candidate.identity != own.identity:
            raise ConfigError(
                f"{path}: holds candidate {own.identity}, not {candidate.identity}: leave "
                "--candidate out"
            )
        return cls(
            name=str(path),
            candidate=own,
            features=from_mapping(FeatureSpec, about["features"], f"{path}: features"),
            weights=_below(_WEIGHT, tensors),
            second_moments=_below(_MOMENT, tensors) or None,
        )


def _refuse_code(about: Any, given: Candidate | None, path: Path) -> None:
    """A file doesn't get to say which code is imported; whoever runs the program does."""
    architecture = about.get("architecture") if isinstance(about, dict) else None
    is_ours = isinstance(architecture, str) and ":" not in architecture
    if not is_ours and (given is None or given.architecture != architecture):
        raise ConfigError(
            f"{path}: is of {shown(architecture)}, which is code outside this program: if you "
            "trust it, name it yourself (--candidates FILE --candidate NAME)"
        )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors, and what a file of this project says of itself."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: can't be read: {e.strerror}") from None
    if _is_pickled(content):
        return _unpickled(path), None
    tensors, metadata = parse_tensors(content, str(path), DataError)
    text = metadata.get(_METADATA)
    if text is None:
        return tensors, None
    about: dict[str, Any] = {}
    with contextlib.suppress(DataError):
        about = parse_json(text, str(path), DataError)
    if not {"candidate", "features"} <= about.keys():
        raise DataError(
            f"{path}: its metadata says nothing of a candidate: save the checkpoint again"
        )
    return tensors, about


def _is_pickled(content: bytes) -> bool:
    """Whether a file begins as `torch.save` writes it: a zip archive, or a pickle before that."""
    return content.startswith((b"PK\x03\x04", b"\x80\x02"))


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        # Nothing but tensors is unpickled.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise DataError(
            f"{path}: neither safetensors nor a state dict of torch: {cut(str(e))}"
        ) from None
    if not isinstance(tensors, dict) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise DataError(f"{path}: holds no state dict: save `model.state_dict()` alone")
    return dict(tensors)
