"""ISA-L's encoder, called without a detour.

The problem. PyECLib copies a stripe into fragments of its own, clears those for the parity, and copies all of them into `bytes`. A PUT of
64 MiB took a tenth more CPU for these passes over memory.

The idea. What codes is ISA-L, whose shared library lies in PyECLib's wheels, or on the system. Its three functions that are needed
(`erasure_code.h`) have been the same since its first release: they are called with the stripe where it is. An encoder is used only if it
gives what PyECLib gives for stripes of several sizes, once in each process. Where there is no such library, PyECLib codes alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from ctypes.util import find_library
from functools import cache
from pathlib import Path

import pyeclib_c

from proxy.memory import address_of, unset

TABLE_SIZE = 32  # bytes for each pair of a data and a parity cell
_POINTER = ctypes.c_void_p


class Encoder:
    """Makes the parity cells of one scheme. Threads may share it."""

    def __init__(self, library: ctypes.CDLL, k: int, m: int) -> None:
        self._k = k
        self._m = m
        matrix = ctypes.create_string_buffer((k + m) * k)
        library.gf_gen_cauchy1_matrix(matrix, k + m, k)
        self._tables = ctypes.create_string_buffer(TABLE_SIZE * k * m)
        library.ec_init_tables(k, m, ctypes.byref(matrix, k * k), self._tables)
        self._encode = library.ec_encode_data
        self._data_pointers, self._parity_pointers = _POINTER * k, _POINTER * m

    def parity(self, stripe: bytes | memoryview) -> list[memoryview]:
        """Return the m parity cells of k even data cells, one behind the other. A `memoryview` is of memory that can be written to."""
        size, rest = divmod(len(stripe), self._k)
        if rest:
            raise ValueError(f"{len(stripe)} bytes are not {self._k} even cells")
        coded = unset(self._m * size)
        data_at = ctypes.cast(ctypes.c_char_p(stripe), _POINTER).value or 0 if isinstance(stripe, bytes) else address_of(stripe)
        coded_at = address_of(coded)
        self._encode(
            size,
            self._k,
            self._m,
            self._tables,
            self._data_pointers(*range(data_at, data_at + len(stripe), size)),
            self._parity_pointers(*range(coded_at, coded_at + len(coded), size)),
        )
        return [coded[low : low + size] for low in range(0, len(coded), size)]


@cache
def isal() -> ctypes.CDLL | None:
    """Return the library that PyECLib uses, if it can be found."""
    beside = Path(pyeclib_c.__file__).parent / "pyeclib.libs"
    for name in (*sorted(map(str, beside.glob("libisal*"))), *_on_the_system()):
        with suppress(OSError, AttributeError):
            return _declared(ctypes.CDLL(name))
    return None


def _on_the_system() -> Sequence[str]:
    found = find_library("isal")
    return () if found is None else (found,)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell the types, as in `erasure_code.h`. Raises AttributeError if it is another library."""
    number = ctypes.c_int
    library.gf_gen_cauchy1_matrix.argtypes = (_POINTER, number, number)
    library.ec_init_tables.argtypes = (number, number, _POINTER, _POINTER)
    library.ec_encode_data.argtypes = (number, number, number, _POINTER, _POINTER, _POINTER)
    for function in (library.gf_gen_cauchy1_matrix, library.ec_init_tables, library.ec_encode_data):
        function.restype = None
    return library
