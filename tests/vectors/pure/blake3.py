"""BLAKE3 in plain Python, for interpreters that have no compiled one; only the tests use it.

Written from the BLAKE3 paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), section 2.
"""

import struct

_IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def _compress(chaining, block, counter, length, flags):
    words = struct.unpack("<16I", block.ljust(64, b"\0"))
    state = [*chaining, *_IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for _ in range(7):
        for number, (a, b, c, d) in enumerate(_QUARTERS):
            for word, turns in ((words[2 * number], (16, 12)), (words[2 * number + 1], (8, 7))):
                state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
                mixed = state[d] ^ state[a]
                state[d] = (mixed >> turns[0] | mixed << 32 - turns[0]) & 0xFFFFFFFF
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                mixed = state[b] ^ state[c]
                state[b] = (mixed >> turns[1] | mixed << 32 - turns[1]) & 0xFFFFFFFF
        words = [words[place] for place in _PERMUTATION]
    return [state[i] ^ state[i + 8] for i in range(8)]


def _chunk(data, counter, root):
    value = list(_IV)
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        flags = (not number) * _CHUNK_START | last * (_CHUNK_END | root)
        value = _compress(value, block, counter, len(block), flags)
    return value


def _tree(data, counter=0, root=_ROOT):
    if len(data) <= 1024:
        return _chunk(data, counter, root)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    words = _tree(data[:left], counter, 0) + _tree(data[left:], counter + left // 1024, 0)
    return _compress(_IV, struct.pack("<16I", *words), 0, 64, _PARENT | root)


class blake3:
    AUTO = -1

    def __init__(self, data=b"", /, *, max_threads=1):
        self._data = bytearray(data)

    def update(self, data, /):
        self._data += bytes(data)
        return self

    def digest(self):
        return struct.pack("<8I", *_tree(bytes(self._data)))

    def hexdigest(self):
        return self.digest().hex()
