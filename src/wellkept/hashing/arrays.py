"""Reducers of arrays and numbers of numpy and scipy: by dtype, shape and content, in any layout."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from blake3 import blake3

from wellkept.hashing.buffers import (
    MAPPED,
    PARALLEL,
    Known,
    buffer_digest,
    joined,
    new_hasher,
    threads,
)
from wellkept.hashing.names import Refused, class_name, library_name, type_key
from wellkept.hashing.reducers import (
    NOTHING_HELPS,
    Reducer,
    generic,
    own_attributes,
    slots_beside,
    slots_held,
)

# Bytes copied at a time from an array that does not lie in one piece in C order.
SLAB = 8 * 1024 * 1024

# Whether a long double is 10 bytes of number and 6 of padding.
_X87 = np.finfo(np.longdouble).nmant == 63


def dtype_text(dtype: np.dtype[Any]) -> Any:
    """Return what an array's dtype is, without its layout in memory: a text, or a tuple for fields."""
    if dtype.names is not None:
        fields: Any = dtype.fields
        # A field's title, if it has one, is another name for it.
        parts = tuple(
            (name, dtype_text(fields[name][0]), *fields[name][2:]) for name in dtype.names
        )
        tag = "fields" if all(len(part) == 2 for part in parts) else "k2:fields"
        found: Any = (tag, dtype.type.__name__, parts)
    elif dtype.subdtype is not None:
        found = ("array", dtype_text(dtype.subdtype[0]), dtype.subdtype[1])
    elif dtype.kind == "T":
        # How missing text is marked belongs to the type.
        text: Any = dtype
        found = ("text", *([text.na_object] if hasattr(text, "na_object") else ()), text.coerce)
    elif dtype.type.__module__ == "numpy":
        found = dtype.str
    else:
        # Types of extensions (bfloat16) call themselves raw bytes.
        found = ("dtype", class_name(dtype.type), str(dtype), dtype.str)
    if dtype.metadata:
        return "metadata", found, dict(dtype.metadata)
    return found


def _flat(array: Any) -> Any:
    """Return the bytes of a C-contiguous array, one by one."""
    return array.reshape(-1).view(np.uint8)


def array_digest(array: Any, known: Known | None) -> bytes:
    """Return the BLAKE3 of a plain array's elements in C order, 32 bytes, with at most a slab copied."""
    if _X87 and array.dtype.kind in "fc" and array.dtype.char in "gG":
        return _padded(array)
    if not array.size:
        return blake3().digest()
    if not array.flags.c_contiguous:
        if array.nbytes <= SLAB:
            return buffer_digest(_flat(np.ascontiguousarray(array)))
        hasher = new_hasher()
        _feed(array, hasher)
        return hasher.digest()
    size = array.nbytes
    if size >= PARALLEL or known:
        key = (array.__array_interface__["data"][0], size)
        if known is not None:
            found = known.get(key)
            if found is not None:
                return found
        if len(MAPPED):
            found = MAPPED.get(key, array.flags.writeable)
            if found is not None:
                return found
        if size >= PARALLEL:
            digest = blake3(_flat(array), max_threads=threads()).digest()
            if not array.flags.writeable:
                _remember(array, key, digest)
            return digest
    return blake3(_flat(array)).digest()


def _remember(array: Any, key: tuple[int, int], digest: bytes) -> None:
    """Note the digest of an array in the memory of a `bytes` object, which can't be written to.

    Of memory that numpy owns that can't be known: another view of it may be writeable, or was made so,
    written through and made read-only again.
    """
    owner = array
    while type(owner.base) is np.ndarray:
        owner = owner.base
    if type(owner.base) is bytes and not owner.flags.writeable:
        MAPPED.remember(*key, digest, owner)


def _feed(array: Any, hasher: blake3) -> None:
    """Give an array to a hasher in C order, slab by slab along its first axes."""
    if array.flags.c_contiguous and array.ndim:
        hasher.update(_flat(array))
    elif array.nbytes <= SLAB:
        hasher.update(_flat(np.ascontiguousarray(array)))
    elif array.nbytes // len(array) > SLAB:
        for part in array:
            _feed(part, hasher)
    else:
        step = max(1, SLAB // max(1, array.nbytes // len(array)))
        for at in range(0, len(array), step):
            hasher.update(_flat(np.ascontiguousarray(array[at : at + step])))


def _padded(array: Any) -> bytes:
    """Hash long doubles without their padding, whose bytes are arbitrary."""
    hasher = blake3()
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    step = SLAB // 16
    for at in range(0, array.size, step):
        piece = np.ascontiguousarray(flat[at : at + step]).view(np.uint8).reshape(-1, 16)
        hasher.update(_flat(np.ascontiguousarray(piece[:, :10])))
    return hasher.digest()


def content(array: Any, known: Known | None) -> Any:
    """Return what an array of the base class holds, apart from dtype and shape."""
    dtype = array.dtype
    if dtype.names is not None:
        return tuple(content(array[name], known) for name in dtype.names)
    if dtype.hasobject or dtype.kind == "T":
        return joined_or_list(array.ravel().tolist())
    return array_digest(array, known)


def joined_or_list(values: list[Any]) -> Any:
    """Hash an array of Python objects: as one text if they are all texts that can be told apart in it."""
    return joined(values) or values


def _ndarray(value: Any, known: Known | None) -> tuple[Any, ...]:
    dtype = value.dtype
    return "ndarray", dtype_text(dtype), value.shape, content(value, known)


def _subclass(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = type(value)
    plain = value.view(np.ndarray)
    state = own_attributes(value)
    # Where an array is mapped from is not its content.
    if type_key(kind) == "numpy.memmap":
        state = {key: item for key, item in state.items() if key not in _MAPPED}
    content = library_name(kind), _ndarray(plain, known), state
    slots = slots_held(value, _own_slots(kind))
    return ("k2:ndarray subclass", *content, slots) if slots else ("ndarray subclass", *content)


def _own_slots(kind: type) -> list[str]:
    return slots_beside(kind.__mro__, "numpy")


_MAPPED = {"_mmap", "filename", "offset", "mode"}


def _masked(value: Any, known: Known | None) -> tuple[Any, ...]:
    if value is np.ma.masked:
        return "global", "numpy.ma", "masked"
    mask = np.ma.getmaskarray(value)
    # The property of that name would write it to the array.
    fill = value._fill_value
    filling = np.ma.default_fill_value(value) if fill is None else fill
    plain = _blanked(value.data, mask)
    state = own_attributes(value)
    content = (
        library_name(type(value)),
        _ndarray(plain, known),
        _ndarray(mask, known),
        _ndarray(np.asarray(filling, value.dtype), known),
        bool(value.hardmask),
        {key: item for key, item in state.items() if key[:1] != "_"},
    )
    private = {key: item for key, item in state.items() if key[:1] == "_" and key not in _OF_MASKED}
    if state.get("_optinfo"):
        private["_optinfo"] = state["_optinfo"]
    private |= slots_held(value, _own_slots(type(value)))
    return ("k2:masked", *content, private) if private else ("masked", *content)


# What numpy keeps in the `__dict__` of masked arrays.
_OF_MASKED = frozenset(
    (
        "_fill_value",
        "_hardmask",
        "_sharedmask",
        "_isfield",
        "_baseclass",
        "_optinfo",
        "_basedict",
        "_mask",
    )
)


def _blanked(data: Any, mask: Any) -> Any:
    """Return the data with zeros where it is masked."""
    data = data.view(np.ndarray)
    if mask.dtype.names is None:
        if not mask.any():
            return data
        data = data.copy()
        data[mask] = np.zeros((), data.dtype)[()]
        return data
    data = data.copy()
    for name in mask.dtype.names:
        data[name] = _blanked(data[name], mask[name])
    return data


def _scalar(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = type(value)
    dtype = value.dtype
    if dtype.names is None and not dtype.hasobject and dtype.char not in "gG":
        raw: Any = value.tobytes()
    else:
        raw = content(np.asarray(value), known)
    # numpy's own types have names that differ between systems for one dtype (long, longlong).
    name = None if kind.__module__ == "numpy" else library_name(kind)
    state = own_attributes(value) if kind.__dictoffset__ else {}
    if kind.__module__ != "numpy":
        state |= slots_held(value, _own_slots(kind))
    if state:
        return "numpy scalar", name, dtype_text(dtype), raw, state
    return "numpy scalar", name, dtype_text(dtype), raw


def _dtype(value: Any, known: Known | None) -> tuple[Any, ...]:
    fields = value.fields
    if fields is None:
        return "dtype", dtype_text(value)
    layout = tuple((name, *fields[name]) for name in value.names)
    return "dtype", dtype_text(value), layout, value.itemsize, value.isalignedstruct


def _ufunc(value: Any, known: Known | None) -> tuple[Any, ...]:
    name = str(value.__name__)
    for module in ("numpy", "scipy.special"):
        if getattr(sys.modules.get(module), name, None) is value:
            return "ufunc", module, name
    raise Refused(f"the ufunc {name!r} is not found by its name: {NOTHING_HELPS}")


def _generator(value: Any, known: Known | None) -> tuple[Any, ...]:
    bits = value.bit_generator
    return "numpy generator", library_name(type(value)), _bit_generator(bits, known)


def _bit_generator(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "bit generator", library_name(type(value)), value.state, getattr(value, "seed_seq", None)


def _seed_sequence(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "seed sequence", library_name(type(value)), value.state


def _random_state(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "random state", library_name(type(value)), value.get_state(legacy=False)


def _vectorize(value: Any, known: Known | None) -> tuple[Any, ...]:
    kept = value._ufunc
    tag, name, *content = generic(type(value))(value, known)
    fresh: Any = {} if isinstance(kept, dict) else None
    # The first call makes it anew.
    state = {**value.__dict__, "_ufunc": fresh}
    return (tag, name, *(state if item is value.__dict__ else item for item in content))


def _dispatched(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "builtin", value.__module__, value.__qualname__


def _iterator(value: Any, known: Known | None) -> tuple[Any, ...]:
    raise Refused(f"a {type(value).__name__} is an iterator: reading it would use it up")


def _sparse(value: Any, known: Known | None) -> tuple[Any, ...]:
    kind = type(value)
    name, form = library_name(kind), value.format
    head = ("sparse", name, form, dtype_text(value.dtype), value.shape)
    if form in ("csr", "csc", "bsr"):
        if not (value.has_canonical_format and value.has_sorted_indices):
            value = value.copy()
            value.sum_duplicates()
            value.sort_indices()
        parts: tuple[Any, ...] = (
            value.indptr.astype("<i8"),
            value.indices.astype("<i8"),
            value.data,
        )
        if form == "bsr":
            parts = (*parts, value.blocksize)
    else:
        flat = value.tocoo(copy=True)
        flat.sum_duplicates()
        coords = flat.coords if hasattr(flat, "coords") else (flat.row, flat.col)
        order = np.lexsort(coords[::-1])
        parts = (*(axis[order].astype("<i8") for axis in coords), flat.data[order])
        if form == "dia":
            parts = (*parts, np.sort(value.offsets).astype("<i8"))
    return (*head, *parts)


EXACT: dict[str, Reducer] = {
    "numpy.ndarray": _ndarray,
    "numpy.ufunc": _ufunc,
    "numpy._ArrayFunctionDispatcher": _dispatched,
    "numpy.vectorize": _vectorize,
}

FAMILIES: dict[str, Reducer] = {
    "numpy.ma.MaskedArray": _masked,
    "numpy.ma.core.MaskedArray": _masked,
    "numpy.ndarray": _subclass,
    "numpy.dtype": _dtype,
    "numpy.generic": _scalar,
    "numpy.random._generator.Generator": _generator,
    "numpy.random.bit_generator.BitGenerator": _bit_generator,
    "numpy.random.bit_generator.SeedSequence": _seed_sequence,
    "numpy.random.mtrand.RandomState": _random_state,
    "numpy.nditer": _iterator,
    "numpy.flatiter": _iterator,
    "numpy.broadcast": _iterator,
    "scipy.sparse._base._spbase": _sparse,
    "scipy.sparse._base.spmatrix": _sparse,
}
