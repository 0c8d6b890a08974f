"""Answers that a replica gave before: the model's outputs by a digest of its inputs.

What is kept is what the model put out, before it is cut and written, so the form of a request and
what its key is told make no difference. It lives and dies with the replica.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from steelyard_serving.protocols.tensors import Array

Outputs = Mapping[str, Array]
ENTRY_BYTES = 500
"""What an entry takes beside its arrays' contents: key, order, time and array objects."""


def key_of(sha256: str, inputs: Mapping[str, Array]) -> bytes:
    """The digest of the artefact and of the inputs: names, datatypes, shapes and values."""
    digest = hashlib.sha256(sha256.encode())
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        if array.dtype.kind == "O":
            for text in array.flat:
                data = text.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
        else:
            digest.update(array.tobytes())
    return digest.digest()


@dataclass(slots=True)
class Cache:
    """Bounded by bytes, the longest unused goes first; an entry is good for ``ttl_ns``.

    A limit of 0 holds nothing. Used by one thread.
    """

    limit_bytes: int = 0
    ttl_ns: int = 0
    held_bytes: int = 0
    _entries: "OrderedDict[bytes, _Entry]" = field(default_factory=OrderedDict)

    def resize(self, limit_bytes: int, ttl_ns: int) -> None:
        """Take other bounds, at once and for what is there, too."""
        self.limit_bytes, self.ttl_ns = limit_bytes, ttl_ns
        self._shrink(limit_bytes)

    def get(self, key: bytes, now_ns: int) -> Outputs | None:
        """What was put under the key, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now_ns - entry.put_ns >= self.ttl_ns:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.outputs

    def put(self, key: bytes, outputs: Outputs, now_ns: int) -> None:
        """Keep a copy, if it has room at all."""
        size = _size(outputs)
        if size > self.limit_bytes:
            return
        if key in self._entries:
            self._drop(key)
        self._shrink(self.limit_bytes - size)
        # A view of a shared batch would keep all of it.
        self._entries[key] = _Entry(_copied(outputs), size, now_ns)
        self.held_bytes += size

    def _shrink(self, most_bytes: int) -> None:
        while self.held_bytes > most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        self.held_bytes -= self._entries.pop(key).size


class Flights:
    """Single flight: of equal requests that are here at once, one infers and the others wait."""

    def __init__(self) -> None:
        self._flying: dict[bytes, asyncio.Future[Outputs | None]] = {}

    def under_way(self, key: bytes) -> "asyncio.Future[Outputs | None] | None":
        """What the one who infers will bring; None when nobody does. Shield it when waiting."""
        return self._flying.get(key)

    @contextmanager
    def leading(self, key: bytes) -> Iterator["asyncio.Future[Outputs | None]"]:
        """Be the one who infers; without a result, the others hear None and go themselves."""
        flight = self._flying[key] = asyncio.get_running_loop().create_future()
        try:
            yield flight
        finally:
            del self._flying[key]
            if not flight.done():
                flight.set_result(None)


@dataclass(slots=True)
class _Entry:
    outputs: Outputs
    size: int
    put_ns: int


def _size(outputs: Outputs) -> int:
    return ENTRY_BYTES + sum(
        sum(60 + 4 * len(text) for text in one.flat) if one.dtype.kind == "O" else one.nbytes
        for one in outputs.values()
    )


def _copied(outputs: Outputs) -> Outputs:
    copies = {name: one.copy() for name, one in outputs.items()}
    for one in copies.values():
        one.setflags(write=False)
    return copies
