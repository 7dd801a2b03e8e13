from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from diet_ray.data.batch import FeatureSpec
from diet_ray.distillation.proxy import Proxy
from diet_ray.errors import ConfigError, DataError
from diet_ray.models.catalogue import ARCHITECTURES, build
from diet_ray.scoring.checkpoint import Checkpoint
from tests.models.rows import FEATURES, candidate, random_batch

PADDING_ROWS = [0, 7, 16]
"""Of the table of `FEATURES`: users, items, tags."""


def trained(architecture: str = "dnn", num_steps: int = 3) -> Proxy:
    proxy = Proxy(candidate(architecture, batch_size=16), FEATURES, seed=1)
    proxy.train([random_batch(16 * num_steps)] if num_steps else [])
    return proxy


def grown(features: FeatureSpec = FEATURES) -> FeatureSpec:
    """Three more items, as a log has them a day later."""
    users, items = features.num_ids
    watched, tags = features.sequence
    return replace(
        features,
        num_ids=(users, items + 3),
        sequence=(replace(watched, num_ids=items + 3), tags),
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_holds_every_bit(architecture: str, tmp_path: Path):
    saved = Checkpoint.of_proxy(trained(architecture), "proxy")
    saved.save(tmp_path / "new" / "c.safetensors")
    found = Checkpoint.load(tmp_path / "new" / "c.safetensors", FEATURES)
    assert found.name == str(tmp_path / "new" / "c.safetensors")
    assert (found.candidate, found.features) == (saved.candidate, saved.features)
    assert saved.second_moments
    assert found.second_moments is not None
    for before, after in (
        (saved.weights, found.weights),
        (saved.second_moments, found.second_moments),
    ):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    model = found.model(FEATURES)
    assert all(torch.equal(saved.weights[n], p) for n, p in model.state_dict().items())
    moments = found.moments_for(model)
    assert moments is not None
    assert {n: v.shape for n, v in moments.items()} == {
        n: p.shape for n, p in model.named_parameters()
    }


def test_second_moments_are_those_of_adam_without_its_bias():
    """After one step v̂ is the squared gradient of that step."""
    proxy = Proxy(candidate("lr", batch_size=16), FEATURES, seed=1)
    before = {n: p.detach().clone() for n, p in proxy.model.named_parameters()}
    model = build(proxy.candidate, FEATURES, seed=1)
    model.load_state_dict(before)
    batch = random_batch(16)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), batch.label)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    proxy.train([batch])
    moments = Checkpoint.of_proxy(proxy, "p").moments_for(proxy.model)
    assert moments is not None
    for name, gradient in gradients.items():
        expected = gradient.square()
        if name == "table.weight":
            expected[PADDING_ROWS] = 0.0
        torch.testing.assert_close(moments[name], expected, rtol=1e-4, atol=1e-9)


def test_untrained_models_have_moments_of_zero():
    moments = Checkpoint.of_proxy(trained(num_steps=0), "p").second_moments
    assert moments
    assert not any(value.any() for value in moments.values())


def test_a_checkpoint_grows_with_its_log():
    checkpoint = Checkpoint.of_proxy(trained(), "p")
    later = grown()
    model = checkpoint.model(later)
    moments = checkpoint.moments_for(model)
    assert moments is not None
    assert checkpoint.second_moments is not None
    # Users keep their rows 0-6, items 7-15 become 7-18, tags move up.
    old, new = checkpoint.weights["table.weight"], model.table.weight
    assert torch.equal(new[:16], old[:16])
    assert torch.equal(new[19:], old[16:])
    first_values = build(checkpoint.candidate, later, seed=0).table.weight
    assert torch.equal(new[16:19], first_values[16:19])
    old, new = checkpoint.second_moments["table.weight"], moments["table.weight"]
    assert not new[16:19].any()
    assert torch.equal(new[1:7], old[1:7])
    assert torch.equal(new[8:16], old[8:16])
    assert torch.equal(new[20:], old[17:])


def test_padding_has_no_moments():
    """It gets gradients in some models, but never moves."""
    proxy = trained("dnn")
    moments = Checkpoint.of_proxy(proxy, "p").second_moments
    assert moments is not None
    moments["table.weight"][PADDING_ROWS] = 1.0
    found = Checkpoint.of_proxy(proxy, "p")
    found = replace(found, second_moments=moments).moments_for(proxy.model)
    assert found is not None
    assert not found["table.weight"][PADDING_ROWS].any()


def test_of_a_log_with_fewer_ids_or_other_fields():
    checkpoint = replace(Checkpoint.of_proxy(trained(), "later"), features=FEATURES)
    fewer = replace(FEATURES, num_ids=(6, 9))
    with pytest.raises(DataError, match=r"^later: field user: .* 7 ids can't shrink to 6"):
        checkpoint.model(fewer)
    other = replace(FEATURES, numeric=("age",))
    with pytest.raises(DataError, match=r"^later: a model for fields .*price"):
        checkpoint.model(other)


@pytest.mark.parametrize("is_safetensors", [True, False])
def test_a_bare_state_dict_needs_its_candidate(is_safetensors: bool, tmp_path: Path):
    proxy = trained("deepfm")
    path = tmp_path / "weights"
    if is_safetensors:
        safetensors.torch.save_file(proxy.weights(), path)
    else:
        torch.save(proxy.model.state_dict(), path)
    with pytest.raises(ConfigError, match=rf"^{path}: doesn't say which model .*--candidate NAME"):
        Checkpoint.load(path, FEATURES)
    found = Checkpoint.load(path, FEATURES, proxy.candidate)
    assert found.second_moments is None
    assert found.moments_for(proxy.model) is None
    state = found.model(FEATURES).state_dict()
    assert all(torch.equal(state[n], value) for n, value in proxy.weights().items())


def test_half_precision_weights_are_taken(tmp_path: Path):
    weights = {name: value.bfloat16() for name, value in trained().weights().items()}
    torch.save(weights, tmp_path / "half.pt")
    model = Checkpoint.load(tmp_path / "half.pt", FEATURES, candidate("dnn")).model(FEATURES)
    assert model.table.weight.dtype == torch.float32
    assert torch.equal(model.table.weight, weights["table.weight"].float())


def test_wrong_weights_are_named(tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save(trained("dnn").model.state_dict(), path)
    for other in (candidate("fm"), candidate("dnn", hidden_sizes=(7, 5))):
        loaded = Checkpoint.load(path, FEATURES, other)
        with pytest.raises(ConfigError, match=rf"^{path}: not the weights of candidate `\w+`: "):
            loaded.model(FEATURES)


def test_another_candidate_than_the_files_own_is_refused(tmp_path: Path):
    path = tmp_path / "c.safetensors"
    saved = Checkpoint.of_proxy(trained("dnn"), "p")
    saved.save(path)
    renamed = replace(saved.candidate, name="the same under another name")
    assert Checkpoint.load(path, FEATURES, renamed).candidate == saved.candidate
    with pytest.raises(ConfigError, match=rf"^{path}: holds candidate dnn\(.* not fm\("):
        Checkpoint.load(path, FEATURES, candidate("fm"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.pop("output.bias"), "output.bias"),
        (lambda m: m.update(other=torch.ones(2)), "other"),
        (lambda m: m.update({"table.weight": torch.ones(3, 4)}), "table.weight"),
    ],
)
def test_moments_of_another_model_are_named(change: Any, named: str):
    checkpoint = Checkpoint.of_proxy(trained(), "p")
    moments = dict(checkpoint.second_moments or {})
    change(moments)
    with pytest.raises(ConfigError, match=rf"^p: the second moments of {named} are not those of"):
        replace(checkpoint, second_moments=moments).moments_for(checkpoint.model(FEATURES))


def test_weights_that_have_diverged_are_named():
    checkpoint = Checkpoint.of_proxy(trained(), "p")
    checkpoint.weights["output.weight"][0, 1] = torch.inf
    with pytest.raises(DataError, match=r"^p: `output.weight` is not finite"):
        checkpoint.model(FEATURES)


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("broken-in",)


@pytest.mark.parametrize("is_torch", [True, False])
def test_nothing_but_tensors_is_unpickled(
    is_torch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if is_torch:
        torch.save({"table.weight": Malicious()}, path)
    else:
        path.write_bytes(pickle.dumps({"table.weight": Malicious()}, protocol=2))
    with pytest.raises(DataError, match=rf"^{path}: neither safetensors nor a state dict"):
        Checkpoint.load(path, FEATURES, candidate("dnn"))
    assert not (tmp_path / "broken-in").exists()
    with path.open("rb") as file:
        # Whoever trusts it is broken into.
        torch.load(file, weights_only=False) if is_torch else pickle.load(file)
    assert (tmp_path / "broken-in").exists()


def test_foreign_files_are_named(tmp_path: Path):
    missing = tmp_path / "missing.pt"
    with pytest.raises(DataError, match=rf"^{missing}: no such file"):
        Checkpoint.load(missing, FEATURES)
    text = tmp_path / "text.pt"
    text.write_text("hello")
    with pytest.raises(DataError, match=rf"^{text}: no whole safetensors file"):
        Checkpoint.load(text, FEATURES, candidate("dnn"))
    training = tmp_path / "training.pt"
    torch.save({"epoch": 3, "model": trained().model.state_dict()}, training)
    with pytest.raises(DataError, match=rf"^{training}: holds no state dict: save `model.state"):
        Checkpoint.load(training, FEATURES, candidate("dnn"))


def test_a_truncated_file_is_named(tmp_path: Path):
    path = tmp_path / "c.safetensors"
    Checkpoint.of_proxy(trained(), "p").save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"^{path}: "):
        Checkpoint.load(path, FEATURES)


@pytest.mark.parametrize("about", ["[]", "{}", "no json"])
def test_metadata_that_says_nothing_is_named(about: str, tmp_path: Path):
    path = tmp_path / "c.safetensors"
    safetensors.torch.save_file(trained().weights(), path, {"diet_ray": about})
    with pytest.raises(DataError, match=rf"^{path}: its metadata says nothing of a candidate"):
        Checkpoint.load(path, FEATURES)


def test_an_unknown_setting_in_a_file_is_named(tmp_path: Path):
    path = tmp_path / "c.safetensors"
    about = '{"candidate": {"name": "c", "architecture": "dnn", "depth": 3}, "features": {}}'
    safetensors.torch.save_file(trained().weights(), path, {"diet_ray": about})
    with pytest.raises(ConfigError, match=rf"^{path}: candidate: unknown key `depth`"):
        Checkpoint.load(path, FEATURES)
