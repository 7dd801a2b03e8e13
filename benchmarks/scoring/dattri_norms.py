"""Per-row squared gradient norms by dattri's TracIn, as self-influence under one checkpoint.

dattri (Deng et al., arXiv 2410.04555) takes them by vmap over grad of a flattened parameter vector.
Its package brings modules named `test` and `examples`, and needs tqdm, whose presence Ray notices:
it is best installed into a folder of its own, `pip install --no-deps --target FOLDER dattri tqdm`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.scoring.torch_func import RowLogit, row_loss
from diet_ray.data.batch import Batch
from diet_ray.models.base import Recommender


def dattri_squared_norms(model: Recommender) -> Callable[[Batch], Tensor]:
    """A function from rows to (B,): all of them are one batch. Raises `ImportError`."""
    from dattri.algorithm import tracin
    from dattri.task import AttributionTask

    # A progress bar a batch would cost time.
    tracin.tqdm = lambda rows, **_: rows

    module = RowLogit(model.eval())

    def loss(parameters: dict[str, Tensor], data: tuple[Tensor, ...]) -> Tensor:
        return row_loss(module, parameters, *data)

    task = AttributionTask(loss_func=loss, model=module, checkpoints=module.state_dict())
    attributor = tracin.TracInAttributor(task=task, weight_list=[1.0], normalized_grad=False)
    # Its constructor can't be told to leave gradients whole, the rest of it can.
    attributor.projector_kwargs = None

    def squared_norms(batch: Batch) -> Tensor:
        rows = DataLoader(TensorDataset(*batch.tensors), batch_size=len(batch))
        with sdpa_kernel(SDPBackend.MATH):
            return attributor.self_attribute(rows)

    return squared_norms
