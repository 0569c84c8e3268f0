"""A scheduler's word to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminable() -> Iterator[None]:
    """Take SIGTERM, by which schedulers end a job, for Ctrl-C: what was measured is kept, and no
    lock, worktree or worker is left. A container's first process would else not end at all.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
