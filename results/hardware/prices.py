"""What GPUs cost to rent, as clouds print it, and with that what a million images cost.

The table is `prices.toml` beside this file. A person's own rows stand in a TOML file too:

    ["NVIDIA L4"]           # words that the driver's name of the GPU holds
    usd_per_hour = 0.8048   # USD an hour, of one GPU
    date = 2026-09-24       # when it cost that, with or without quotes
    source = "..."          # optional: cloud, machine, region, terms
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BeforeValidator, Field

from ..records.errors import UserError
from ..records.quantities import Strict
from .specs import Figure, find_row, number_of, read_rows

IMAGES = 1_000_000
SECONDS_PER_HOUR = 3600


class PriceError(UserError):
    """A file of prices that can't be used."""


def iso_date(value: object) -> str:
    """A date as TOML knows it, or as text that says the same: YYYY-MM-DD."""
    text = value.isoformat() if type(value) is datetime.date else value
    if not isinstance(text, str) or datetime.date.fromisoformat(text).isoformat() != text:
        raise ValueError("no date, or in another of ISO's forms")
    return text


class Price(Strict):
    """A GPU's price.

    usd_per_hour: Of one GPU, with its share of the machine around it.
    source: Cloud, machine, region, terms.
    date: ISO, when it cost that.
    """

    usd_per_hour: Figure = Field(description=number_of("USD"))
    source: str = "prices.toml"
    date: Annotated[str, BeforeValidator(iso_date)] = Field(description="a date as 2026-09-24")


def find_price(gpu_name: str, *more: Mapping[str, Price]) -> Price | None:
    """The price of a GPU by the name that its driver gives it; None where there is none.

    Args:
        more: A person's own rows, which win over the table's; the first over the others.
    """
    return find_row(gpu_name, *more, shipped_prices())


@lru_cache
def shipped_prices() -> dict[str, Price]:
    """The table that comes with this package."""
    with as_file(files(__package__) / "prices.toml") as path:
        return read_prices(path)


def store_prices(store: Path) -> dict[str, Price]:
    """Your own rows, from `prices.toml` in a store: see `read_prices`."""
    return read_prices(store / "prices.toml")


def read_prices(path: Path) -> dict[str, Price]:
    """A person's own rows; none where there is no file.

    Raises:
        PriceError: Where the file can't be used: in one line, what must hold, what came, and
            what to do.
    """
    return read_rows(path, Price, PriceError)


def million_images_usd(image_s: float, usd_per_hour: float) -> float:
    """What a million images cost, in USD.

    Args:
        image_s: Seconds an image, of a GPU that is never idle.
        usd_per_hour: Of that GPU.
    """
    return IMAGES * image_s / SECONDS_PER_HOUR * usd_per_hour


def with_cost(cases: pd.DataFrame, *more: Mapping[str, Price]) -> pd.DataFrame:
    """Cases with the price of their GPU and what a million images cost; missing without a price.

    Args:
        cases: A frame of cases.
        more: A person's own rows, which win over the table's; the first over the others.
    """
    prices = {gpu: find_price(gpu, *more) for gpu in cases["gpu"].dropna().unique()}
    rows = [prices.get(gpu) for gpu in cases["gpu"]]
    usd_per_hour = pd.Series(
        [row.usd_per_hour if row else float("nan") for row in rows], cases.index, dtype=float
    )
    return cases.assign(
        usd_per_hour=usd_per_hour,
        price_source=[row.source if row else "" for row in rows],
        price_date=[row.date if row else "" for row in rows],
        million_usd=cases["image_s"].astype(float) * usd_per_hour * million_images_usd(1.0, 1.0),
    )
