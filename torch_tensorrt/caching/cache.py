"""Where built engines are kept: the documented base class, from which users derive caches of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod


class BaseEngineCache(ABC):
    """Keeps bytes under a name. What the bytes say is checked by the one who asks for them, never by the cache.

    Derived classes write `save` and `load`; both may be called by several threads and processes at once.
    """

    @abstractmethod
    def save(self, hash: str, blob: bytes, *args: object, **kwargs: object) -> None:
        """Keeps `blob` under `hash` (64 hexadecimal digits), in place of what was there."""

    @abstractmethod
    def load(self, hash: str, *args: object, **kwargs: object) -> bytes | bytearray | memoryview | None:
        """What was saved under `hash`, or None when it isn't there, or not any more.

        The memory of a bytearray or writable memoryview is given away with it; bytes are copied by the receiver.
        """

    def insert(self, hash: str, entry: bytes, *args: object, **kwargs: object) -> None:
        """`save` under its other documented name."""
        self.save(hash, entry, *args, **kwargs)

    def check(self, hash: str, *args: object, **kwargs: object) -> bytes | bytearray | memoryview | None:
        """`load` under its other documented name."""
        return self.load(hash, *args, **kwargs)
