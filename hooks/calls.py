"""Following the forward calls of modules, with hooks that are always removed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from torch import nn
from torch.utils.hooks import RemovableHandle

Open = TypeVar("Open")  # what is kept of a call until it ends


class CallHooks(Generic[Open]):
    """Follows the forward calls of modules while it is entered.

    Leaving, also through an error, removes every hook.

    Args:
        modules: Name and module; a module may contain another.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = dict(modules)
        self._handles: list[RemovableHandle] = []
        self._open: list[Open] = []  # the innermost call last

    def _begin(self, name: str) -> Open:
        raise NotImplementedError

    def _end(self, name: str, has_failed: bool) -> None:
        """The innermost open call is this one; take it from `_open`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            for name, module in self.modules.items():
                self._hook(name, module)
        except BaseException:
            self._remove_hooks()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove_hooks()
        self._open.clear()

    def _hook(self, name: str, module: nn.Module) -> None:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._open.append(self._begin(name))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            # After an error, torch calls an always_call hook inside its except block, with None.
            self._end(name, has_failed=output is None and sys.exception() is not None)

        # First, so that no other hook's error leaves this one uncalled, and `leave` without a call.
        self._handles.append(module.register_forward_pre_hook(enter, prepend=True))
        # always_call: an error below must not leave this call open.
        self._handles.append(module.register_forward_hook(leave, always_call=True))

    def _remove_hooks(self) -> None:
        while self._handles:
            self._handles.pop().remove()
