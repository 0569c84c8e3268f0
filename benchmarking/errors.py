"""Errors of planning and measuring, and which errors are the user's mistakes."""

from __future__ import annotations

import importlib
from typing import Any

from results.records.errors import UserError, quoted, suggestion
from sam.files.errors import FileError

__all__ = ["USER_ERRORS", "SweepError", "import_extra", "quoted", "suggestion"]

# Shown as one line with exit code 2; in a worker, they end the sweep instead of failing a case.
USER_ERRORS = (UserError, FileError)


class SweepError(UserError):
    """A sweep can't be run as asked."""


def import_extra(module: str, fleet: str, name: str) -> Any:
    """A package that only one fleet needs; SweepError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SweepError(
            f"--fleet {fleet} needs {name}: pip install 'sam-encoder-bench[{fleet}]'."
        ) from error
