"""One forward and one activation backward pass that leave every layer's factors behind.

Layers are watched by hooks: what a layer was given is kept on the way forward, and the gradient at
what it gave on the way back. No gradient of a weight is ever formed. Parameters that no closed form
covers are differentiated row by row instead (`diet_ray.influence.fallback`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from diet_ray.influence.closed_forms import ClosedForm, closed_form_of
from diet_ray.influence.factors import Factor


@dataclass
class _Call:
    """A layer's forward pass, and the gradient that came back to it."""

    layer: nn.Module
    form: ClosedForm
    inputs: tuple[Any, ...]
    gradient: Tensor | None = None


class Capture:
    """What the watched layers saw in one forward pass."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.leaves: list[Tensor] = []
        """Outputs of layers whose inputs need no gradient: to be differentiated at as well."""

    def record(self, layer: nn.Module, form: ClosedForm, inputs: Any, output: Tensor) -> Tensor:
        if not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            output = output.detach().requires_grad_()
            self.leaves.append(output)
        call = _Call(layer, form, inputs)
        self.calls.append(call)

        def keep(gradient: Tensor) -> None:
            call.gradient = gradient

        # Unlike the gradient at the tensor as it is later, this is that at the value as it was
        # before an activation overwrote it in place.
        output.register_hook(keep)
        return output

    def factors(self, names: dict[int, str], num_rows: int) -> dict[str, Factor]:
        """By parameter name; `names` are those of parameters by id.

        Parameters that the logit doesn't depend on are missing.
        """
        found: dict[str, Factor] = {}
        for call in self.calls:
            if call.gradient is None:
                continue
            own = dict(call.layer.named_parameters(recurse=False))
            for name, factor in call.form(call.layer, call.inputs, call.gradient, num_rows).items():
                key = names.get(id(own[name]))
                if key is not None:
                    found[key] = found[key] + factor if key in found else factor
        return found


@contextmanager
def captured(layers: Iterable[nn.Module]) -> Iterator[Capture]:
    """Watches `layers`, all with a closed form, until the block ends."""
    capture = Capture()
    handles = []
    for layer in layers:
        form = closed_form_of(layer)
        assert form is not None, f"{type(layer).__name__} has no closed form"

        def hook(layer: nn.Module, inputs: Any, output: Tensor, form: ClosedForm = form) -> Tensor:
            return capture.record(layer, form, inputs, output)

        handles.append(layer.register_forward_hook(hook))
    try:
        yield capture
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Makes frozen parameters take gradients until the block ends."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    for p in frozen:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)
