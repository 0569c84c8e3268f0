"""What GPUs cost to rent, found by the names that their drivers give them."""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from importlib.resources import files

import pandas as pd
import pytest

from results.hardware import prices
from results.hardware.prices import (
    Price,
    PriceError,
    find_price,
    million_images_usd,
    read_prices,
    shipped_prices,
    store_prices,
    with_cost,
)
from results.hardware.specs import MAX_FILE_BYTES
from results.records.repair import look_over
from results.records.store import Store
from results.tables.frames import case_frame

NAMES = {
    "Tesla T4": "T4",
    "NVIDIA A10G": "A10G",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "NVIDIA A100-SXM4-40GB": "A100 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB PCIe",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H200": "H200",
    "NVIDIA B200": "B200",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX PRO 6000 Blackwell Server",
}
# Other GPUs than the rows that they look like, slices of them, and none at all.
STRANGERS = (
    "NVIDIA A10", "NVIDIA L40", "NVIDIA A100", "NVIDIA GH200 480GB", "NVIDIA GB200",
    "NVIDIA H200 NVL", "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    "a GPU", "",
)  # fmt: skip
SHIPPED = shipped_prices()
SECTION = 'usd_per_hour = 0.5\ndate = 2025-12-31\nsource = "mine"\n'
OURS = "NVIDIA L4"
L4 = f'["{OURS}"]\n{SECTION}'

# What a person may write, and what the error must tell of it.
WRONG = {
    "an unknown key": (L4 + "eur = 9", ["'eur'", f"'{OURS}'", "Known: usd_per_hour, source, date"]),
    "a misspelt key": (L4.replace("usd_", "us_"), ["'us_per_hour'", "is unknown"]),
    "no price": (f'["{OURS}"]\ndate = 2025-12-31', ["usd_per_hour", "of USD", "got none"]),
    "no date": (f'["{OURS}"]\nusd_per_hour = 1', ["date", "a date as 2026-09-24", "got none"]),
    "text": (L4.replace("0.5", '"0.5"'), ["usd_per_hour", "number of USD", "got '0.5'"]),
    "a currency": (L4.replace("0.5", '"$0.5"'), ["usd_per_hour", "got '$0.5'"]),
    "a truth value": (L4.replace("0.5", "true"), ["usd_per_hour", "got True"]),
    "a list": (L4.replace("0.5", "[1, 2]"), ["usd_per_hour", "got [1, 2]"]),
    "NaN": (L4.replace("0.5", "nan"), ["usd_per_hour", "got nan"]),
    "infinity": (L4.replace("0.5", "inf"), ["usd_per_hour", "got inf"]),
    "zero": (L4.replace("0.5", "0"), ["usd_per_hour", "above 0", "got 0"]),
    "a negative number": (L4.replace("0.5", "-1"), ["usd_per_hour", "above 0", "got -1"]),
    "too high a number": (L4.replace("0.5", "1e7"), ["at most 1000000", "got 10000000.0"]),
    "a number without end": (L4.replace("0.5", "0x" + "f" * 5000), ["too long to show"]),
    "a date of another country": (L4.replace("2025-12-31", '"31.12.2025"'), ["got '31.12.2025'"]),
    "a date without dashes": (L4.replace("2025-12-31", '"20251231"'), ["date", "got '20251231'"]),
    "a date as a number": (L4.replace("2025-12-31", "20251231"), ["date", "got 20251231"]),
    "a month alone": (L4.replace("2025-12-31", '"2025-12"'), ["date", "got '2025-12'"]),
    "a day that is none": (L4.replace("2025-12-31", '"2025-02-30"'), ["date", "got '2025-02-30'"]),
    "a bare day that is none": (L4.replace("2025-12-31", "2025-02-30"), ["must be TOML"]),
    "a time": (L4.replace("2025-12-31", "2025-12-31T10:00:00"), ["date", "a date as 2026-09-24"]),
    "a source that is no text": (L4.replace('"mine"', "1"), ["source", "must be text", "got 1"]),
    "no section": ("usd_per_hour = 1", ["must be a table", "'usd_per_hour' = 1"]),
    "a list of sections": (L4.replace("[", "[[").replace("]", "]]"), ["must be a table"]),
    "a section without a name": (f'[""]\n{SECTION}', ["a GPU's name above it", "''"]),
    "a name without quotes": (f"[{OURS}]\n{SECTION}", ["must be TOML", "in quotes", "line 1"]),
    "a section twice": (L4 + L4, ["must be TOML", "twice"]),
    "deep brackets": ("a = " + "[" * 100_000, ["must be TOML"]),
    "no TOML": ("<html>", ["must be TOML", "line 1"]),
    "escape codes": ('["\\u001b[31m"]\nusd_per_hour = 1', [r"'\x1b[31m'"]),
    "other text than UTF-8": (L4.encode("utf-16"), ["must be UTF-8"]),
    "too much": (L4 + "#" * MAX_FILE_BYTES, ["may have 1000000 bytes"]),
}


@pytest.fixture
def write(tmp_path):
    def written(content: str | bytes):
        path = tmp_path / "prices.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


# The table


@pytest.mark.parametrize(("gpu", "row"), NAMES.items())
def test_a_price_is_found_by_the_drivers_name(gpu, row):
    assert find_price(gpu) is SHIPPED[row]


@pytest.mark.parametrize("gpu", STRANGERS)
def test_no_other_gpus_price_is_taken_for_a_name(gpu):
    assert find_price(gpu) is None


def test_every_row_is_found_by_a_drivers_name():
    assert set(NAMES.values()) == set(SHIPPED)


def test_the_package_holds_the_table():
    sections = tomllib.loads(
        (files("results.hardware") / "prices.toml").read_text(encoding="utf-8")
    )

    assert set(sections) == set(SHIPPED)


def test_the_table_is_read_once():
    assert shipped_prices() is SHIPPED


@pytest.mark.parametrize("price", SHIPPED.values(), ids=SHIPPED)
def test_a_price_is_that_of_one_gpu(price):
    assert 0.3 < price.usd_per_hour < 20


@pytest.mark.parametrize("price", SHIPPED.values(), ids=SHIPPED)
def test_a_price_names_its_cloud_and_terms(price):
    assert price.source.startswith(("AWS ", "Azure ", "RunPod "))
    assert "on demand" in price.source


@pytest.mark.parametrize("price", SHIPPED.values(), ids=SHIPPED)
def test_a_price_is_dated_and_of_the_past(price):
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", price.date)
    # After AWS's cut of June 2025.
    assert datetime.date(2025, 7, 1) < datetime.date.fromisoformat(price.date)
    assert datetime.date.fromisoformat(price.date) <= datetime.date.today()


@pytest.mark.parametrize("price", SHIPPED.values(), ids=SHIPPED)
def test_a_share_of_a_machine_is_an_eighth_of_its_price(price):
    machine = re.search(r"an eighth of ([\d.]+)$", price.source)

    assert machine is None or price.usd_per_hour == float(machine[1]) / 8


def test_machines_of_eight_gpus_are_shared():
    shared = {row for row, price in SHIPPED.items() if "an eighth of" in price.source}

    assert shared == {"A100 40GB", "A100 80GB", "H100", "H200", "B200"}


# A person's own prices


def test_a_price_is_read_as_it_is_written(write):
    price = read_prices(write(L4))[OURS]

    assert price == Price(usd_per_hour=0.5, source="mine", date="2025-12-31")


def test_a_date_may_stand_in_quotes(write):
    assert read_prices(write(L4.replace("2025-12-31", '"2025-12-31"'))) == read_prices(write(L4))


def test_a_price_may_be_a_whole_number(write):
    assert read_prices(write(L4.replace("0.5", "2")))[OURS].usd_per_hour == 2


def test_a_source_may_be_left_out(write):
    content = L4.replace('source = "mine"\n', "")

    assert read_prices(write(content))[OURS].source == "prices.toml"


def test_a_persons_price_wins_over_the_tables(write):
    own = read_prices(write(L4))

    assert find_price(OURS, own) is own[OURS]


def test_a_persons_less_particular_price_wins_too(write):
    own = read_prices(write(L4.replace(OURS, "H100")))

    assert find_price("NVIDIA H100 PCIe", own) is own["H100"]


def test_a_persons_most_particular_price_wins(write):
    own = read_prices(write(f'["NVIDIA"]\n{SECTION}\n["NVIDIA A40"]\n{SECTION}'))

    assert find_price("NVIDIA A40", own) is own["NVIDIA A40"]


def test_a_persons_prices_leave_the_table_for_other_gpus(write):
    assert find_price("NVIDIA L40S", read_prices(write(L4))) is SHIPPED["L40S"]


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_file_has_no_prices(write, content):
    assert read_prices(write(content)) == {}


def test_no_file_has_no_prices(tmp_path):
    assert read_prices(tmp_path / "none" / "prices.toml") == {}


def test_a_byte_order_mark_is_let_pass(write):
    assert set(read_prices(write(L4.encode("utf-8-sig")))) == {OURS}


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_what_is_wrong(write, content, told):
    path = write(content)

    with pytest.raises(PriceError) as caught:
        read_prices(path)

    assert [part for part in (str(path), "Correct", *told) if part not in str(caught.value)] == []


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_an_error_is_one_printable_line(write, content, told):
    path = write(content)

    with pytest.raises(PriceError) as caught:
        read_prices(path)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_path_that_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "prices.toml")

    with pytest.raises(PriceError, match="must be a file"):
        read_prices(tmp_path / "prices.toml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "prices.toml"
    path.symlink_to(path)

    with pytest.raises(PriceError, match="must be readable"):
        read_prices(path)


def test_every_key_is_shown_in_the_docstring():
    assert [key for key in Price.model_fields if f"{key} = " not in prices.__doc__] == []


# In the store


def test_a_persons_prices_are_read_from_the_store(store):
    (store.path / "prices.toml").write_text(L4)

    assert store_prices(store.path)[OURS].usd_per_hour == 0.5


def test_a_store_without_a_file_of_prices_has_none(tmp_path):
    assert store_prices(Store(tmp_path / "none").path) == {}


def test_a_file_of_prices_that_is_wrong_is_refused_with_its_path(store):
    path = store.path / "prices.toml"
    path.write_text(f'["{OURS}"]\nusd_per_hour = "cheap"\n')

    with pytest.raises(PriceError, match="usd_per_hour of 'NVIDIA L4'") as caught:
        store_prices(store.path)

    assert str(path) in str(caught.value)


def test_a_store_with_prices_is_fine(store, make_record):
    store.write_record(make_record())
    (store.path / "prices.toml").write_text(L4)

    assert [look.is_fine for look in look_over(store)] == [True]


# A million images


def test_a_million_images_of_a_second_are_a_million_seconds():
    assert million_images_usd(1, 3600) == 1_000_000


def test_a_gpu_for_a_dollar_an_hour_makes_a_million_images_of_36_ms_for_ten():
    assert million_images_usd(0.036, 1) == pytest.approx(10)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_the_cost_grows_with_the_time_and_with_the_price(factor):
    once = million_images_usd(0.1, 0.8)

    assert million_images_usd(0.1 * factor, 0.8) == pytest.approx(factor * once)
    assert million_images_usd(0.1, 0.8 * factor) == pytest.approx(factor * once)


# Cases with their cost


@pytest.fixture
def cases(make_record, make_failure):
    """On a GPU with a price, on another, on none, and one that failed."""
    devices = [make_record(device=device) for device in ("cuda:0", "cuda:1", "cpu")]
    return case_frame([*devices, make_failure()])


def test_a_case_has_the_price_of_its_gpu(cases):
    priced = with_cost(cases)

    assert priced["usd_per_hour"].tolist()[:2] == [
        SHIPPED["L4"].usd_per_hour, SHIPPED["L40S"].usd_per_hour,
    ]  # fmt: skip
    assert priced["price_source"].tolist()[:2] == [SHIPPED["L4"].source, SHIPPED["L40S"].source]
    assert priced["price_date"].tolist()[:2] == [SHIPPED["L4"].date, SHIPPED["L40S"].date]


def test_a_case_costs_what_a_million_of_its_images_do(cases):
    for row in with_cost(cases).head(2).to_dict("records"):
        assert row["million_usd"] == pytest.approx(
            million_images_usd(row["image_s"], row["usd_per_hour"])
        )


def test_a_case_on_a_cpu_has_no_price_and_no_cost(cases):
    row = with_cost(cases).iloc[2]

    assert row[["usd_per_hour", "million_usd"]].isna().all()
    assert (row["price_source"], row["price_date"]) == ("", "")


def test_a_case_that_failed_has_a_price_and_no_cost(cases):
    row = with_cost(cases).iloc[3]

    assert row["usd_per_hour"] == SHIPPED["L4"].usd_per_hour
    assert pd.isna(row["million_usd"])


def test_a_case_on_a_gpu_that_nobody_knows_has_no_price(cases):
    priced = with_cost(cases.assign(gpu="A GPU of next year"))

    assert priced[["usd_per_hour", "million_usd"]].isna().all(axis=None)


def test_a_persons_price_makes_a_case_s_cost(cases, write):
    priced = with_cost(cases, read_prices(write(L4)))

    assert priced["usd_per_hour"].iloc[0] == 0.5
    assert priced["million_usd"].iloc[0] == pytest.approx(
        million_images_usd(cases["image_s"].iloc[0], 0.5)
    )
    assert priced["price_source"].tolist()[:2] == ["mine", SHIPPED["L40S"].source]


def test_of_several_rows_of_a_person_the_first_win(cases, write):
    first, second = read_prices(write(L4)), read_prices(write(L4.replace("0.5", "0.25")))

    assert with_cost(cases, first, second)["usd_per_hour"].iloc[0] == 0.5
    assert find_price(OURS, second, first) is second[OURS]


def test_another_price_replaces_the_one_before(cases, write):
    again = with_cost(with_cost(cases), read_prices(write(L4)))

    assert again.equals(with_cost(cases, read_prices(write(L4))))


def test_prices_change_no_other_column_and_no_row(cases):
    mixed = cases.iloc[[3, 1, 0, 2]]
    priced = with_cost(mixed)

    assert priced[cases.columns].equals(mixed)
    assert priced["million_usd"].dtype == float
    assert set(priced.columns) - set(cases.columns) == {
        "usd_per_hour", "price_source", "price_date", "million_usd",
    }  # fmt: skip


def test_no_cases_have_the_columns_all_the_same(cases):
    priced = with_cost(cases.head(0))

    assert len(priced) == 0
    assert {"usd_per_hour", "price_source", "price_date", "million_usd"} <= set(priced.columns)
