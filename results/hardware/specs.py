"""What GPUs can do at most: dense matrix products and memory traffic, as their makers state it.

Rates without sparsity, in FLOP/s by precision (2 FLOP = 1 MAC), and byte/s. Each row names its
source. A person's own rows stand in a TOML file:

    ["NVIDIA L4"]      # words that the driver's name of the GPU holds
    fp32 = 30.3        # TFLOP/s, without tensor cores
    tf32 = 60          # TFLOP/s, dense; as bf16 and fp16, left out where the GPU lacks it
    bf16 = 121
    fp16 = 121         # accumulated in fp32
    fp8 = 242.5        # accumulated in fp32
    int8 = 242         # TOP/s, optional
    memory = 300       # GB/s
    cache = 48         # MiB of the last cache, optional
    source = "..."     # optional
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from ..records.addresses import failures
from ..records.errors import UserError, one_line, quoted
from ..records.quantities import Strict

TERA, GIGA, MEBI = 1e12, 1e9, 2**20
MAX_FILE_BYTES = 1_000_000
MOST = 1_000_000  # of a figure: beyond any GPU's, but short of what forgot its unit's prefix

# A driver's name with one of these is another GPU's, or that of a slice of one (MIG), than the
# same name without.
APART = frozenset({"d", "laptop", "mig", "nvl", "super", "ti"})

Figure = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
Form = TypeVar("Form", bound=Strict)
Found = TypeVar("Found")


class HardwareError(UserError):
    """A file of peaks that can't be used."""


class RowError(ValueError):
    """What is wrong with a file of rows; `read_rows` adds which file, and what to do."""


@dataclass(frozen=True)
class Spec:
    """A GPU's limits.

    flops_per_s: By precision, where the GPU has it; fp32 without tensor cores.
    bytes_per_s: Of its memory.
    cache_bytes: Of its last cache before memory.
    source: Where the figures stand.
    """

    flops_per_s: dict[str, float]
    bytes_per_s: float
    cache_bytes: int
    source: str


def number_of(unit: str) -> str:
    """What a `Figure` must be, in words."""
    return f"a number of {unit}, above 0 and at most {MOST}"


class Row(Strict):
    """A GPU's limits as a person writes them; each description says what must hold."""

    fp32: Figure = Field(description=number_of("TFLOP/s"))
    tf32: Figure | None = Field(None, description=number_of("TFLOP/s"))
    bf16: Figure | None = Field(None, description=number_of("TFLOP/s"))
    fp16: Figure | None = Field(None, description=number_of("TFLOP/s"))
    fp8: Figure | None = Field(None, description=number_of("TFLOP/s"))
    int8: Figure | None = Field(None, description=number_of("TOP/s"))
    memory: Figure = Field(description=number_of("GB/s"))
    cache: Figure = Field(0, description=number_of("MiB"))
    source: str = "hardware.toml"

    def peak(self) -> Spec:
        rates = self.model_dump(exclude={"memory", "cache", "source"}, exclude_none=True)
        flops_per_s = {name: rate * TERA for name, rate in rates.items()}
        return Spec(flops_per_s, self.memory * GIGA, round(self.cache * MEBI), self.source)


def peak(
    fp32: float,
    tf32: float | None,
    half: float,
    gigabytes_per_s: float,
    cache_mib: float,
    source: str,
    *,
    has_fp8: bool = False,
    int8: float | None = None,
) -> Spec:
    """A row in TFLOP/s, GB/s and MiB.

    Args:
        tf32: None on GPUs older than Ampere, which lack bf16 too.
        half: Of fp16, and of bf16 where the GPU has it: the same on all of them.
        has_fp8: Whether it has fp8, at twice the rate of `half` on all that do.
        int8: In TOP/s; twice `half` on all GPUs of the table but those that say otherwise.
    """
    bf16, fp8 = None if tf32 is None else half, 2 * half if has_fp8 else None
    return Row(
        fp32=fp32, tf32=tf32, bf16=bf16, fp16=half, fp8=fp8, int8=int8 or 2 * half,
        memory=gigabytes_per_s, cache=cache_mib, source=source,
    ).peak()  # fmt: skip


def find_spec(gpu_name: str, more: Mapping[str, Spec] = {}) -> Spec | None:
    """The row of a GPU by the name that its driver gives it; None where there is none.

    Args:
        more: A person's own rows, which win over the table's.
    """
    return find_row(gpu_name, more, SPECS)


@lru_cache
def gpu_model_of(gpu_name: str) -> str | None:
    """The most particular row of the table that a GPU has; None where there is none."""
    return find_row(gpu_name, {row: row for row in SPECS})


def find_row(gpu_name: str, *tables: Mapping[str, Found]) -> Found | None:
    """A GPU's row in the first of the tables that has one; None where none has."""
    for rows in tables:
        found = [row for row in rows if fits(row, gpu_name)]
        if found:  # the most particular one
            return rows[max(found, key=lambda row: len(words(row)))]
    return None


def fits(row: str, gpu_name: str) -> bool:
    """Whether a name has all words of a row, and besides none that sets the GPU apart."""
    rest = words(gpu_name) - words(row)
    return words(row) <= words(gpu_name) and not rest & APART


def words(name: str) -> frozenset[str]:
    """What a name is told by; "80G" and "80GB" are the same memory."""
    split = name.replace("-", " ").casefold().split()
    return frozenset(re.sub(r"^([0-9]+)gb$", r"\1g", word) for word in split)


def find_gpu_model(text: str) -> str | None:
    """A person's word for a GPU as the table spells it; None where the table has none such."""
    asked = words(text) - {"nvidia"}
    return next((row for row in SPECS if words(row) == asked), None)


def store_specs(store: Path) -> dict[str, Spec]:
    """Your own rows, from `hardware.toml` in a store: see `read_specs`."""
    return read_specs(store / "hardware.toml")


def read_specs(path: Path) -> dict[str, Spec]:
    """A person's own rows; none where there is no file.

    Raises:
        HardwareError: Where the file can't be used: in one line, what must hold, what came, and
            what to do.
    """
    rows = read_rows(path, Row, HardwareError)
    return {name: row.peak() for name, row in rows.items()}


def read_rows(path: Path, form: type[Form], refusal: type[UserError]) -> dict[str, Form]:
    """A TOML file's sections by the GPU's name above each; none where there is no file.

    Args:
        form: Of a section. The description of a field says what must hold; "text" without one.
        refusal: Raised where the file can't be used: in one line, what must hold, what came, and
            what to do.
    """
    try:
        sections = tomllib.loads(read_text(path))
        return {name: read_row(name, section, form) for name, section in sections.items()}
    except RowError as error:
        raise refusal(f"'{path}' can't be used: {error} Correct or remove it.") from error
    except (ValueError, RecursionError) as error:  # of the parser, in more than one way
        raise refusal(
            f"'{path}' must be TOML with a GPU's name in quotes above each section, as "
            f'["NVIDIA L4"], got: {error}. Correct it.'
        ) from error


def read_text(path: Path) -> str:
    """A file's text; empty where there is no file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RowError("it must be a file, and it is none.")
        if status.st_size > MAX_FILE_BYTES:
            raise RowError(f"it may have {MAX_FILE_BYTES} bytes, and has {status.st_size}.")
        # A byte-order mark, as some editors put in front of UTF-8, is let pass.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise RowError(f"it must be UTF-8 text, and byte {error.start} is not.") from error
    except RowError:
        raise
    except failures(path) as error:
        raise RowError(f"it must be readable, and is not: {one_line(error)}.") from error


def read_row(name: str, section: object, form: type[Form]) -> Form:
    if not words(name) or not isinstance(section, dict):
        raise RowError(
            "each section must be a table with a GPU's name above it, as "
            f'["NVIDIA L4"], got {quoted(name)} = {quoted(section)}.'
        )
    unknown = [key for key in section if key not in form.model_fields]
    if unknown:  # before what is missing, which it may be, misspelt
        known = ", ".join(form.model_fields)
        raise RowError(f"{quoted(unknown[0])} of {quoted(name)} is unknown. Known: {known}.")
    try:
        return form.model_validate(section, strict=True)  # where "1" and true are no numbers
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
    must = form.model_fields[key].description or "text"
    came = quoted(section[key]) if key in section else "none"
    raise RowError(f"{key} of {quoted(name)} must be {must}, got {came}.")


# By row: fp32, tf32, half, GB/s, MiB. Rates of eight bits stand in the same documents. "Halved":
# the document prints its tensor cores' rates with sparsity, twice the dense ones. "Dense": it
# prints those. Caches "by CUDA" are what the runtime reports as L2 on such a GPU. H100s with six
# stacks of memory have 60 MiB, those with five 50.
# Left out: the L40, whose data sheet (2023) gives it half the rates of an L40S on the same chip,
# without a reason.
# fmt: off
SPECS: dict[str, Spec] = {
    "T4": peak(8.1, None, 65, 320, 4, "NVIDIA T4 data sheet, 2019, dense; cache by CUDA"),
    "A10": peak(31.2, 62.5, 125, 600, 6,
        "NVIDIA A10 data sheet, 2021, dense; cache: GA102 whitepaper, 2021"),
    "A10G": peak(35, 35, 70, 600, 6, "NVIDIA A10G data sheet for AWS, 2022, dense; cache by CUDA"),
    "RTX A6000": peak(38.7, 77.4, 154.8, 768, 6, "NVIDIA GA102 whitepaper, 2021, dense"),
    "A100 40GB": peak(19.5, 156, 312, 1555, 40,
        "NVIDIA A100 data sheet, 2021, dense; cache: A100 whitepaper, 2020"),
    "A100 80GB": peak(19.5, 156, 312, 2039, 40,
        "NVIDIA A100 data sheet, 2021, SXM, dense; cache: A100 whitepaper, 2020"),
    "A100 80GB PCIe": peak(19.5, 156, 312, 1935, 40,
        "NVIDIA A100 data sheet, 2021, PCIe, dense; cache: A100 whitepaper, 2020"),
    "L4": peak(30.3, 60, 121, 300, 48,
        "NVIDIA L4 data sheet, 2023, halved; cache: Ada whitepaper, 2023", has_fp8=True),
    "L40S": peak(91.6, 183, 366.5, 864, 96,
        "NVIDIA L40S data sheet, 2023, halved: 733 with sparsity, beside which it prints 362.05 "
        "as dense; cache by CUDA", has_fp8=True),
    "RTX 4090": peak(82.6, 82.6, 165.2, 1008, 72,
        "NVIDIA Ada whitepaper, 2023, dense, accumulated in fp32", has_fp8=True, int8=660.6),
    "RTX 6000 Ada": peak(91.1, 182, 364, 960, 96,
        "NVIDIA RTX PRO Blackwell whitepaper, 2025, dense; not found in text: tf32, half of bf16 "
        "as on the L40S; nor by NVIDIA: cache", has_fp8=True),
    "H100": peak(67, 494.5, 989.5, 3350, 50,
        "NVIDIA H100 data sheet, 2023, SXM, halved; cache: H100 whitepaper, 2022", has_fp8=True),
    "H100 PCIe": peak(51.2, 378, 756.5, 2039, 50,
        "NVIDIA H100 data sheet, 2023, PCIe, halved; bandwidth (2000 in the product brief) and "
        "cache: H100 whitepaper, 2022", has_fp8=True),
    "H100 NVL": peak(60, 417.5, 835.5, 3938, 60,
        "NVIDIA H100 data sheet, 2024, NVL, halved; bandwidth: product brief, 2024; cache by CUDA",
        has_fp8=True),
    "H200": peak(67, 494.5, 989.5, 4800, 60,
        "NVIDIA H200 data sheet, 2023, SXM, halved; cache by CUDA", has_fp8=True),
    "H200 NVL": peak(60, 417.5, 835.5, 4800, 60,
        "NVIDIA H200 data sheet, 2024, NVL, halved; not found in text: cache, as in the H200",
        has_fp8=True),
    "GH200": peak(67, 494.5, 989.5, 4000, 60,
        "NVIDIA GH200 data sheet, 2023, 96 GB, halved; not found in a text of NVIDIA's: cache",
        has_fp8=True),
    "GH200 144G": peak(67, 494.5, 989.5, 4900, 60,
        "NVIDIA GH200 data sheet, 2023, 144 GB, halved; not found in a text of NVIDIA's: cache",
        has_fp8=True),
    "B200": peak(75, 1125, 2250, 8000, 126,
        "NVIDIA Blackwell data sheet, 2025, HGX, halved; tf32: half of bf16 (it prints 2.2 PFLOP/s "
        "with sparsity); bandwidth: DGX B200 data sheet, 2025, 64 TB/s by 8 (HGX: 7.7); cache: "
        "Blackwell tuning guide, 2025", has_fp8=True),
}
# fmt: on
