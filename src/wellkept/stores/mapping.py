"""Files as memory, without a descriptor for each: a program may hold thousands of arrays."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

from wellkept.hashing import address

__all__ = ["map_file"]


def map_file(fd: int, size: int, readonly: bool, offset: int = 0) -> mmap.mmap:
    """Map `size` (> 0) bytes of a file from `offset` (whole pages): copy-on-write, or read-only.

    Raises:
        OSError: the system can't, for instance because the process has too many mappings.
    """
    prot = mmap.PROT_READ if readonly else mmap.PROT_READ | mmap.PROT_WRITE
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=prot, trackfd=False, offset=offset)
    # Older Pythons hold a duplicate of the descriptor for each mapping. So: an anonymous mapping,
    # which has none, and the file's pages laid over it at the same address.
    made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=prot)
    flags = mmap.MAP_PRIVATE | _MAP_FIXED
    # `address` takes also what may not be written to, and four times as long.
    at = address(made) if readonly else ctypes.addressof(ctypes.c_char.from_buffer(made))
    if _mmap()(at, size, prot, flags, fd, offset) in _FAILED:
        error = ctypes.get_errno()
        made.close()
        raise OSError(error, "can't map a file")
    return made


_MAP_FIXED = 0x10  # the same on Linux and macOS
_FAILED = (None, ctypes.c_void_p(-1).value)
_found: Any = None


def _mmap() -> Any:
    global _found
    if _found is None:
        _found = ctypes.CDLL(None, use_errno=True).mmap
        _found.restype = ctypes.c_void_p
        _found.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int64,
        )
    return _found
