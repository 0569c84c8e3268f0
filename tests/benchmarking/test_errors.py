"""Which errors are the user's mistakes."""

from __future__ import annotations

import pytest

from benchmarking.choices.inputs import InputError
from benchmarking.errors import USER_ERRORS, SweepError
from benchmarking.gate.gate import GateError
from benchmarking.machine.environment import ProbeError
from results.answers.recommend import NoRecordError
from results.hardware.prices import PriceError
from results.hardware.specs import HardwareError
from results.records.addresses import AddressError, UnreachableError
from results.records.reading import BrokenFileError
from results.records.store import StoreError
from results.verdicts.baselines import BaselineError
from sam.files.checkpoints import CheckpointError
from sam.files.download import DownloadError
from sam.files.masks import MissingExtraError
from sam.files.sa1b import Sa1bError

MISTAKES = (
    AddressError, BaselineError, CheckpointError, DownloadError, GateError, HardwareError,
    InputError, MissingExtraError, NoRecordError, PriceError, ProbeError, Sa1bError, StoreError,
    SweepError,
)  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_the_users_and_printable(kind):
    error = kind("'a\n\x1b' is no file.")

    assert isinstance(error, USER_ERRORS)
    assert str(error) == "'a??' is no file."


@pytest.mark.parametrize("kind", [BrokenFileError, UnreachableError, ValueError, OSError])
def test_any_other_error_is_not_the_users(kind):
    assert not issubclass(kind, USER_ERRORS)
