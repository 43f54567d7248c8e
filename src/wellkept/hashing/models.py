"""Reducers of estimators, networks and tokenizers: scikit-learn's, torch's and Hugging Face's.

Each counts by its state, as its library pickles it, and by what that leaves out: hooks, gradients, parameters
that share memory. A class of a library counts with what a project or a test has put into it.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from wellkept.hashing.buffers import Known
from wellkept.hashing.functions import function_code, made_here
from wellkept.hashing.names import Bounded, Refused, class_name, library_name
from wellkept.hashing.reducers import (
    NOTHING_HELPS,
    Reducer,
    attributes,
    generic,
    library_of,
    own_attributes,
    slots_beside,
    slots_held,
)

_generic: Bounded[type, Reducer] = Bounded(4096)


def _of_library(value: Any, known: Known | None) -> tuple[Any, ...]:
    """Return what an object is taken apart into, with what was put into its class."""
    kind = type(value)
    reduce = _generic.get(kind)
    if reduce is None:
        reduce = _generic[kind] = generic(kind)
    content = reduce(value, known)
    put = _put_into(kind)
    return ("k2:put into", put, *content) if put else content


def _put_into(kind: type) -> list[tuple[str, str, Any]]:
    """Return what a project or a test has put into a library's classes in place of their methods."""
    found: list[tuple[str, str, Any]] = []
    for base in kind.__mro__[:-1]:
        held = vars(base)
        seen = _seen.get(base)
        # To compare takes a hundredth of what it takes to look; a class seldom changes.
        if seen is None or not _is_same(seen[0], held):
            seen = _seen[base] = dict(held), _put_into_one(base)
        found += seen[1]
    return found


def _is_same(before: dict[str, Any], now: Any) -> bool:
    # Attributes of a class may be arrays, which compare one by one.
    try:
        return bool(before == now)
    except ValueError:
        return False


_seen: Bounded[type, tuple[dict[str, Any], list[tuple[str, str, Any]]]] = Bounded(4096)


def _put_into_one(base: type) -> list[tuple[str, str, Any]]:
    library = library_of(base)
    # The code of a project's class counts as it is.
    if library == "builtins" or made_here(base):
        return []
    found = []
    for name, held in list(vars(base).items()):
        inner = getattr(held, "__func__", getattr(held, "fget", held))
        if type(inner).__module__ == "unittest.mock":
            raise Refused(f"{class_name(base)}.{name} is a mock, which has no identity")
        if isinstance(inner, FunctionType) and not _is_of(inner, library):
            found.append((class_name(base), name, inner))
    return found


def _is_of(function: FunctionType, library: str) -> bool:
    """Return whether a function was made by a library: by this one, or by any other."""
    name = str(function.__globals__.get("__name__"))
    return name.partition(".")[0] == library or function_code(function) is None


def _search_tree(value: Any, known: Known | None) -> tuple[Any, ...]:
    content = list(_of_library(value, known))
    for n, item in enumerate(content):
        # How often it was asked, and what that took, is part of what is pickled.
        if type(item) is tuple and item[7:10] == value.get_tree_stats():
            content[n] = (*item[:7], 0, 0, 0, 0, *item[11:])
    return tuple(content)


# -- torch ----------------------------------------------------------------------------------------


def _tensor(value: Any, known: Known | None) -> tuple[Any, ...]:
    # They import NumPy, which tokenizers do without.
    import numpy as np

    from wellkept.hashing.arrays import array_digest

    torch = sys.modules["torch"]
    kind = type(value)
    if getattr(value, "_backward_hooks", None) or value._post_accumulate_grad_hooks:
        raise Refused(
            f"a {kind.__qualname__} with hooks has no digest: remove them, or {NOTHING_HELPS}"
        )
    more = own_attributes(value) | slots_held(value, slots_beside(kind.__mro__, "torch"))
    if (value.is_leaf or value.retains_grad) and value.grad is not None:
        more["grad"] = value.grad
    if not value.is_leaf:
        more["is_leaf"] = False
    flatten = getattr(value, "__tensor_flatten__", None)
    if flatten is not None:
        # A tensor of a library that wraps others, such as one that is quantized or spread over devices.
        names, context = flatten()
        inside = [(name, getattr(value, name)) for name in names]
        shape, dtype = tuple(value.shape), str(value.dtype)
        return "k2:tensor of tensors", class_name(kind), dtype, shape, inside, context, more
    if value.layout is not torch.strided or value.is_quantized or value.is_nested:
        raise Refused(f"a {value.layout} tensor has no digest: make it dense, or {NOTHING_HELPS}")
    if value.device.type == "meta":
        raise Refused(
            f"a tensor on the device meta has no content, and so no digest: {NOTHING_HELPS}"
        )
    flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, "u1")
    content = (
        library_name(kind),
        str(value.dtype),
        tuple(value.shape),
        value.device.type,
        bool(value.requires_grad),
        array_digest(raw, known),
    )
    return ("k2:tensor", *content, more) if more else ("tensor", *content)


def _module(value: Any, known: Known | None) -> tuple[Any, ...]:
    if getattr(value, "_compiled_call_impl", None) is not None:
        raise Refused(
            f"a compiled {type(value).__qualname__} has no digest: give it before compile()"
        )
    held, shared = attributes(value), _shared(value)
    if type(value).__module__ == "torch.nn.utils.parametrize":
        # Torch makes a class for each of these, and pickles none.
        return "k2:torch module", shared, class_name(type(value).__mro__[1]), held
    content = _of_library(value, known)
    more: dict[str, Any] = {"shared": shared} if shared else {}
    if any(held.get(name) for name in _HOOKS):
        content = tuple(_with_hooks(item) if _is_state(item) else item for item in content)
        more["hooks"] = True
    return ("k2:torch module", more, *content) if more else content


# Hooks, by the numbers of their handles, which count what the process has registered.
_HOOKS = {
    "_forward_hooks": ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    "_forward_pre_hooks": ("_forward_pre_hooks_with_kwargs",),
    "_backward_hooks": (),
    "_backward_pre_hooks": (),
    "_state_dict_hooks": (),
    "_state_dict_pre_hooks": (),
    "_load_state_dict_pre_hooks": (),
    "_load_state_dict_post_hooks": (),
}


def _is_state(item: Any) -> bool:
    return type(item) is dict and "_modules" in item


def _with_hooks(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a module with its hooks in their order, in place of by their handles."""
    made = dict(state)
    for name, flags in _HOOKS.items():
        held = state.get(name) or {}
        made[name] = list(held.values())
        for flag in flags:
            given = state.get(flag) or {}
            made[flag] = [given.get(number, False) for number in held]
    return made


def _shared(module: Any) -> list[list[str]]:
    """Return the names of parameters and buffers that share memory: to change one is to change the others."""
    found: dict[Any, list[str]] = {}
    _note(module, "", found, set())
    return [names for names in found.values() if len(names) > 1]


def _note(module: Any, path: str, found: dict[Any, list[str]], open_: set[int]) -> None:
    if id(module) in open_:
        return
    for held in (module._parameters, module._buffers):
        for name, tensor in held.items():
            if tensor is not None:
                try:
                    place = tensor.device, tensor.untyped_storage().data_ptr() or id(tensor)
                except (RuntimeError, NotImplementedError):
                    # It has no memory of its own.
                    place = tensor.device, id(tensor)
                found.setdefault(place, []).append(f"{path}{name}")
    for name, child in module._modules.items():
        if child is not None:
            _note(child, f"{path}{name}.", found, open_ | {id(module)})


def _refuse(advice: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        raise Refused(f"a {type(value).__qualname__} has no digest: {advice}, or {NOTHING_HELPS}")

    return reduce


def _named(tag: str) -> Reducer:
    return lambda value, known: (tag, str(value))


# -- tokenizers -----------------------------------------------------------------------------------


def _tokenizer(value: Any, known: Known | None) -> tuple[Any, ...]:
    content = _of_library(value, known)
    # They are not part of what a tokenizer is written as.
    more = own_attributes(value)
    if value.encode_special_tokens:
        more["encode_special_tokens"] = True
    return ("k2:tokenizer", more, *content) if more else content


EXACT: dict[str, Reducer] = {
    "torch.dtype": _named("torch dtype"),
    "torch.device": _named("torch device"),
    "torch.Size": lambda value, known: ("torch size", tuple(value)),
}

FAMILIES: dict[str, Reducer] = {
    "sklearn.base.BaseEstimator": _of_library,
    "sklearn.neighbors._ball_tree.BinaryTree32": _search_tree,
    "sklearn.neighbors._ball_tree.BinaryTree64": _search_tree,
    "sklearn.neighbors._kd_tree.BinaryTree32": _search_tree,
    "sklearn.neighbors._kd_tree.BinaryTree64": _search_tree,
    "tokenizers.Tokenizer": _tokenizer,
    "torch.Tensor": _tensor,
    "torch._dynamo.eval_frame.OptimizedModule": _refuse("give the module that was compiled"),
    "torch.jit._script.ScriptModule": _refuse("give the module that was scripted"),
    "torch.nn.modules.module.Module": _module,
    "transformers.tokenization_utils_base.PreTrainedTokenizerBase": _of_library,
}
