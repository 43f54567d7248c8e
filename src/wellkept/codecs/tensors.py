"""How torch's tensors are pickled: their elements leave the pickle, as an array's do, and come back mapped.

Torch itself pickles the whole memory that a tensor is a view of, into the pickle, and leaves out gradients.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def reducers() -> dict[type, Any]:
    """Return the reducers of tensors, if torch is loaded."""
    torch = sys.modules.get("torch")
    kinds = getattr(torch, "Tensor", None), getattr(getattr(torch, "nn", None), "Parameter", None)
    # A module that is in the midst of its import lacks them.
    return dict.fromkeys(kinds, reduce_tensor) if None not in kinds else {}  # type: ignore[arg-type]  # as it says


def reduce_tensor(tensor: Any) -> Any:
    """Return what a tensor is pickled as; torch's own reduction of one that is not plain memory."""
    torch = sys.modules["torch"]
    plain = (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_leaf
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
        and not (tensor._backward_hooks or tensor._post_accumulate_grad_hooks)
    )
    if not plain:
        return tensor.__reduce_ex__(5)
    # The axes as they lie in memory, where they lie densely, as with `channels_last`.
    order = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    moved = tensor.detach().permute(order)
    if not moved.is_contiguous():
        order = list(range(tensor.dim()))
        moved = tensor.detach().contiguous()
    array = moved.reshape(-1).view(torch.uint8).numpy() if moved.numel() else None
    told = str(tensor.dtype).removeprefix("torch."), tuple(moved.shape), tuple(order)
    state = dict(tensor.__dict__)
    if tensor.grad is not None:
        state["grad"] = tensor.grad
    parameter = type(tensor) is not torch.Tensor
    made = rebuilt, (array, *told, parameter, tensor.requires_grad)
    return (*made, state, None, None, restored) if state else made


def rebuilt(
    array: Any,
    dtype: str,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    parameter: bool,
    requires_grad: bool,
) -> Any:
    """Return a tensor over the memory of an array of bytes; pickles name this function, so it stays here."""
    # Whoever reads such a pickle may not have loaded torch yet.
    torch: Any = import_module("torch")
    kind = getattr(torch, dtype)
    if array is None:
        flat = torch.empty(0, dtype=kind)
    else:
        flat = torch.from_numpy(array if array.flags.writeable else array.copy()).view(kind)
    made = flat.reshape(shape).permute([order.index(axis) for axis in range(len(order))])
    return (
        torch.nn.Parameter(made, requires_grad) if parameter else made.requires_grad_(requires_grad)
    )


def restored(tensor: Any, state: dict[str, Any]) -> None:
    """Give a tensor its attributes and its gradient; pickles name this function too."""
    for name, held in state.items():
        setattr(tensor, name, held)
