"""Following the forward calls of modules, with hooks that are always removed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Generic, Self, TypeVar

from torch import nn

Open = TypeVar("Open")  # what is kept of a call until it ends


class CallHooks(Generic[Open]):
    """Follows the forward calls of modules while it is entered.

    Leaving, also through an error, removes every hook.

    Args:
        modules: Name and module; a module may contain another.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = dict(modules)
        self._handles = ExitStack()
        self._open: list[Open] = []  # the innermost call last

    def _begin(self, name: str) -> Open:
        raise NotImplementedError

    def _end(self, name: str, has_failed: bool) -> None:
        """The innermost open call is this one; take it from `_open`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with ExitStack() as handles:
            for name, module in self.modules.items():
                self._hook(name, module, handles)
            self._handles = handles.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._handles.close()
        self._open.clear()

    def _hook(self, name: str, module: nn.Module, handles: ExitStack) -> None:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._open.append(self._begin(name))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            # After an error, torch calls an always_call hook inside its except block, with None.
            self._end(name, has_failed=output is None and sys.exception() is not None)

        # First, so that no other hook's error leaves this one uncalled, and `leave` without a call.
        handles.enter_context(module.register_forward_pre_hook(enter, prepend=True))
        # always_call: an error below must not leave this call open.
        handles.enter_context(module.register_forward_hook(leave, always_call=True))
