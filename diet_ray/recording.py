"""A function of tensors as a straight line of tensor operations, recorded once and replayed.

On mini-batches of a few dozen rows, a step's time is the time to call operations, not to do them:
modules, the autograd engine and `vmap` cost several times what the arithmetic does. Recorded with
its backward pass for one size of mini-batch, the same step is one list of operations; and one that
a compiler takes as it is, hooks and gradients and all.

`make_fx` records too, but takes a second to load in every process and ten times as long to record.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_ATEN = torch.ops.aten
_RESHAPES = (_ATEN.view.default, _ATEN._unsafe_view.default, _ATEN.expand.default)
_METHODS = ("view", "expand", "transpose", "permute", "unsqueeze", "squeeze", "select", "t")
_OVERLOADS_ALONE = ("index", "index_put")
"""Whose functions don't take what the overloads take: indices that are None."""
_SHARES_MEMORY = (_ATEN.detach.default, _ATEN.alias.default)
_BY_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

_here = threading.local()


def recording() -> bool:
    """Whether this thread's operations are being recorded, so that no value may be asked for."""
    return getattr(_here, "recording", False)


def record(
    function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor]
) -> fx.GraphModule:
    """`function(*arguments)`, a tuple of tensors, for tensors of these shapes and strides.

    What the function decides by shapes is decided for good; if it asks for a tensor's values, this
    raises RuntimeError. Tensors that are neither arguments nor computed from them are constants.
    Call the result within `torch.no_grad()`.
    """
    recorder = _Recorder(arguments)
    _here.recording = True
    try:
        with recorder:
            outputs = function(*arguments)
    finally:
        _here.recording = False
    graph = recorder.graph
    graph.output(tuple(recorder.node(o) for o in outputs))
    _simplify(graph)
    module = fx.GraphModule(recorder.constants, graph)
    spoken = fx.GraphModule(recorder.constants, _in_python(graph))
    for node in itertools.chain(module.graph.nodes, spoken.graph.nodes):
        node.meta.clear()
    return spoken if _agree(spoken, module, arguments) else module


class _Recorder(TorchDispatchMode):
    """Writes down every operation beneath autograd and `vmap`, as it is done."""

    def __init__(self, arguments: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants = nn.Module()
        self._nodes: dict[int, fx.Node] = {}
        # An id tells a tensor only while it lives.
        self._alive: list[Tensor] = []
        for i, tensor in enumerate(arguments):
            self._remember(tensor, self.graph.placeholder(f"argument_{i}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True would load the compiler.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self._refuse_values(func, args)
        result = func(*args, **kwargs)
        if not isinstance(result, (Tensor, tuple, list)):
            # Of shapes and types, which don't change.
            return result
        node = self.graph.call_function(
            func, tree_map(self.node, args), tree_map(self.node, kwargs)
        )
        if isinstance(result, Tensor):
            self._remember(result, node)
        else:
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._remember(part, self.graph.call_function(operator.getitem, (node, i)))
        return result

    def node(self, value: Any) -> Any:
        """The node of a tensor; anything else is itself."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:
            name = f"constant_{len(self._nodes)}"
            self.constants.register_buffer(name, value.detach())
            self._remember(value, self.graph.get_attr(name))
        return self._nodes[id(value)]

    def _remember(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta["val"] = tensor
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)

    def _refuse_values(self, func: Any, args: tuple[Any, ...]) -> None:
        if func is _ATEN.index.Tensor:
            refused = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        else:
            refused = not _BY_VALUE.isdisjoint(func.tags)
        if refused:
            raise RuntimeError(f"{func}: what it does depends on a tensor's values")


def _in_python(graph: fx.Graph) -> fx.Graph:
    """Calls torch's own functions and methods, which cost half of what calling an overload by name
    does."""
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    for node in copied.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        name = node.target.overloadpacket.__name__.removeprefix("_unsafe_")
        if hasattr(torch.Tensor, name) and name in _METHODS:
            node.op, node.target = "call_method", name
        elif hasattr(torch, name) and name not in _OVERLOADS_ALONE:
            node.target = getattr(torch, name)
    return copied


def _agree(module: fx.GraphModule, other: fx.GraphModule, arguments: Sequence[Tensor]) -> bool:
    """Whether both give the same, bit for bit."""
    try:
        with torch.no_grad():
            # Called as a module, it would print where it fails.
            pairs = zip(module.forward(*arguments), other.forward(*arguments), strict=True)
            return all(torch.equal(a, b) for a, b in pairs)
    except (TypeError, RuntimeError):
        return False


def _simplify(graph: fx.Graph) -> None:
    """Takes out what does nothing, which is half of what vmap writes."""
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        inputs = _inputs(node)
        if not inputs:
            continue
        source = inputs[0]
        if _is_identity(node, source):
            _replace(graph, node, source)
        elif node.target is _ATEN.transpose.int:
            if _undoes(node, source):
                _replace(graph, node, _inputs(source)[0])
            elif source.target is _ATEN.bmm.default and _swaps_last(node):
                _transpose_factors(graph, node, source)
        elif node.target is _ATEN.add.Tensor:
            _fuse_bias(graph, node)
    graph.eliminate_dead_code()
    graph.lint()


def _replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def _is_identity(node: fx.Node, source: fx.Node) -> bool:
    if node.target in _SHARES_MEMORY:
        return True
    if node.target is _ATEN.mul.Scalar:
        # vmap's spelling of addmm's factor.
        return bool(node.args[1] == 1 and _value(node).dtype == _value(source).dtype)
    if node.target in _RESHAPES:
        before, after = _value(source), _value(node)
        return bool(before.shape == after.shape and before.stride() == after.stride())
    return False


def _undoes(node: fx.Node, source: fx.Node) -> bool:
    """Whether a transposition is that of its own inverse."""
    return source.target is _ATEN.transpose.int and set(node.args[1:]) == set(source.args[1:])


def _swaps_last(node: fx.Node) -> bool:
    dims: Any = node.args[1:]
    return _value(node).dim() == 3 and {d % 3 for d in dims} == {1, 2}


def _transpose_factors(graph: fx.Graph, node: fx.Node, product: fx.Node) -> None:
    """(aᵀ @ b)ᵀ as bᵀ @ a: the gradient of a linear layer's weight, in the weight's own order."""
    first, second = _inputs(product)
    if first.target is not _ATEN.transpose.int or not _swaps_last(first):
        return
    with graph.inserting_before(node):
        turned = graph.call_function(_ATEN.transpose.int, (second, 1, 2))
        turned.meta["val"] = _value(second).transpose(1, 2)
        found = graph.call_function(_ATEN.bmm.default, (turned, _inputs(first)[0]))
    found.meta["val"] = _value(node).contiguous()
    _replace(graph, node, found)


def _fuse_bias(graph: fx.Graph, node: fx.Node) -> None:
    """bias + (a @ b), as vmap writes a linear layer, as one operation."""
    if node.kwargs or len(_inputs(node)) < 2:
        return
    for product, bias in itertools.permutations(_inputs(node), 2):
        if (
            product.target is _ATEN.bmm.default
            and len(product.users) == 1
            and _value(bias).dim() == 3
            and _value(product).shape == _value(node).shape
        ):
            with graph.inserting_before(node):
                fused = graph.call_function(_ATEN.baddbmm.default, (bias, *product.args))
            fused.meta = dict(node.meta)
            _replace(graph, node, fused)
            return


def _inputs(node: fx.Node) -> tuple[fx.Node, ...]:
    """A node's leading arguments that are nodes."""
    return tuple(itertools.takewhile(lambda a: isinstance(a, fx.Node), node.args))  # type: ignore[arg-type]


def _value(node: fx.Node) -> Any:
    """Shape and type of what a node gives."""
    return node.meta["val"]
