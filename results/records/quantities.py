"""Base model and number types of all records.

Times are seconds, sizes are bytes; every field carries its unit in its name.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

SCHEMA_VERSION = 3
FILE_NAME = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,79}$"  # ids are names of files and folders
PASS_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")  # the key of a result and the prefix of columns


def seven_digits(seconds: float) -> float:
    """A clock resolves no more, and records stay small."""
    return float(f"{seconds:.7g}")


Seconds = Annotated[
    float, Field(ge=0, allow_inf_nan=False), PlainSerializer(seven_digits, when_used="json")
]
# A difference of two times, which noise can make negative.
SignedSeconds = Annotated[
    float, Field(allow_inf_nan=False), PlainSerializer(seven_digits, when_used="json")
]
Samples = tuple[Seconds, ...]
PositiveSamples = Annotated[tuple[Annotated[Seconds, Field(gt=0)], ...], Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# 64 bits, so that no record can hold a number that a table can't.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Bytes = Count


class Strict(BaseModel):
    """Plain data: unknown fields and changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
