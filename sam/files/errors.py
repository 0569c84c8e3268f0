"""The base of all errors that a file can cause."""

from __future__ import annotations


class FileError(Exception):
    """A file can't be used or written.

    The message is one printable line, whatever a file or a tensor in it is called: what is wrong,
    what was expected, and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(char if char.isprintable() else "?" for char in message))
