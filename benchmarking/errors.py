"""Errors of planning and measuring, and which errors are the user's mistakes."""

from __future__ import annotations

from results.records.errors import UserError, quoted, suggestion
from sam.files.errors import FileError

__all__ = ["USER_ERRORS", "SweepError", "quoted", "suggestion"]

# Shown as one line with exit code 2; in a worker, they end the sweep instead of failing a case.
USER_ERRORS = (UserError, FileError)


class SweepError(UserError):
    """A sweep can't be run as asked."""
