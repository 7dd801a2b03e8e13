"""A recorded function gives what the function gives, by fewer operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from diet_ray.recording import record


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor]:
    layer = vmap(torch.nn.functional.linear, in_dims=(None, 0, 0))
    return (torch.relu(layer(x, weight, bias)).sum(dim=(1, 2)),)


def arguments(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(5, 4, generator=g),
        torch.randn(3, 2, 4, generator=g),
        torch.randn(3, 2, generator=g),
    )


def test_a_recording_gives_the_function_of_other_values() -> None:
    recorded = record(linear, arguments(0))
    torch.testing.assert_close(recorded(*arguments(1)), linear(*arguments(1)))


def test_gradients_are_recorded() -> None:
    gradient = grad(lambda w, x, b: linear(x, w, b)[0].sum())

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor]:
        return (gradient(weight, x, bias),)

    recorded = record(function, arguments(0))
    torch.testing.assert_close(recorded(*arguments(1)), function(*arguments(1)))


def test_a_linear_layer_is_one_operation() -> None:
    layer = vmap(torch.nn.functional.linear)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor]:
        return (layer(x, weight, bias),)

    tensors = (torch.randn(3, 5, 4), torch.randn(3, 2, 4), torch.randn(3, 2))
    recorded = record(function, tensors)
    names = [str(n.target) for n in recorded.graph.nodes if n.op.startswith("call")]
    assert len(names) == 3  # the weight and the bias take their places, then one product
    assert "baddbmm" in names[-1]
    torch.testing.assert_close(recorded(*tensors), function(*tensors))


def test_views_that_change_shape_or_order_are_kept() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.t().t(), x.view(2, 3) + 1, x.t().reshape(-1)

    tensors = (torch.randn(3, 2),)
    recorded = record(function, tensors)
    for found, expected in zip(recorded(*tensors), function(*tensors), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_depends_on_values_is_refused() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (x * 2 if bool((x > 0).any()) else x,)

    with pytest.raises(RuntimeError):
        record(function, (torch.randn(3),))


def test_indices_and_sizes_that_depend_on_values() -> None:
    i, j = torch.triu_indices(4, 4, offset=1)

    def function(x: Tensor) -> tuple[Tensor]:
        return (grad(lambda own: (own @ own.transpose(1, 2))[:, i, j].square().sum())(x),)

    recorded = record(function, (torch.randn(2, 4, 3),))
    other = torch.randn(2, 4, 3)
    torch.testing.assert_close(recorded(other), function(other))
    with pytest.raises(RuntimeError, match="depends on a tensor's values"):
        record(lambda x: (x[x > 0],), (torch.randn(3),))


def test_tensors_from_outside_are_constants() -> None:
    constant = torch.randn(3)
    recorded = record(lambda x: (x * constant,), (torch.randn(3),))
    torch.testing.assert_close(recorded(torch.ones(3))[0], constant)
