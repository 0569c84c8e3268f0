"""What a device can do at most: measured, and kept in the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarking.choices.precision import PRECISIONS, without_tf32
from benchmarking.machine.environment import describe_environment
from benchmarking.measuring import calibrate as calibrate_file
from benchmarking.measuring.calibrate import cache_bytes, product_of, time_copies, time_products
from hooks import WallClock
from results.records.measurement import MeasuredRoofs
from results.records.store import Store
from sam.quantise import EIGHT_BITS

CPU = torch.device("cpu")
ON_A_CPU = [name for name, precision in PRECISIONS.items() if precision.on_cpu]
EIGHT_BIT = [name for name, precision in PRECISIONS.items() if precision.eight_bits is not None]
WHOLE = [name for name in PRECISIONS if name not in EIGHT_BIT]


# What is measured


def test_roofs_have_every_precision_that_the_device_can_do_and_no_other(roofs):
    assert list(roofs.products) == ON_A_CPU


@pytest.mark.parametrize("precision", ON_A_CPU)
def test_every_product_took_time(roofs, precision):
    samples = roofs.products[precision].product_s

    assert samples
    assert min(samples) > 0


def test_every_copy_took_time(roofs):
    assert min(roofs.copy_s) > 0
    assert roofs.copied_bytes == 4096


def test_roofs_name_the_device_and_what_ran_on_it(roofs):
    here = describe_environment()

    assert roofs.device == here.device_name("cpu")
    assert (roofs.torch, roofs.threads) == (torch.__version__, torch.get_num_threads())


def test_roofs_are_equal_after_they_were_written(roofs, tmp_path):
    store = Store(tmp_path)
    store.write_roofs(roofs)

    assert store.read_roofs() == [MeasuredRoofs.model_validate_json(roofs.model_dump_json())]


@pytest.mark.parametrize(("product_s", "side"), [(0.0, 16), (1e9, 64)])
def test_products_grow_until_they_take_long_or_are_the_largest(
    quick_calibration, monkeypatch, product_s, side
):
    monkeypatch.setattr(calibrate_file, "PRODUCT_S", {"cpu": product_s})

    assert time_products("fp32", CPU, WallClock()).side == side


@pytest.mark.parametrize("precision", WHOLE)
def test_products_are_of_the_precisions_type(quick_calibration, monkeypatch, precision):
    seen = []
    true = torch.mm

    def spying(first, second, out):
        seen.append((first.dtype, second.dtype, out.dtype, torch.backends.cudnn.allow_tf32))
        return true(first, second, out=out)

    monkeypatch.setattr(torch, "mm", spying)
    with without_tf32():
        time_products(precision, CPU, WallClock())
    dtype = getattr(torch, PRECISIONS[precision].dtype)

    assert set(seen) == {(dtype, dtype, dtype, PRECISIONS[precision].tf32)}


@pytest.mark.parametrize("precision", EIGHT_BIT)
def test_products_in_eight_bits_are_of_numbers_of_eight_bits(
    quick_calibration, monkeypatch, precision
):
    bits, seen = EIGHT_BITS[PRECISIONS[precision].eight_bits], []

    def spying(*factors):
        seen.append({factor.dtype for factor in factors})
        return bits.product(*factors)

    monkeypatch.setitem(EIGHT_BITS, precision, replace(bits, product=spying))
    products = time_products(precision, CPU, WallClock())

    assert len(seen) > len(products.product_s)
    assert all(types == {bits.dtype} for types in seen)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_product_is_of_two_matrices_in_the_precision(precision):
    matrices = [torch.randn(32, 32, generator=torch.Generator().manual_seed(n)) for n in (0, 1)]
    product = product_of(matrices, precision)()

    assert product.shape == (32, 32)
    assert torch.equal(product, product_of(matrices, precision)())
    assert product.any()


def test_a_copy_takes_at_most_a_quarter_of_the_free_memory(quick_calibration, monkeypatch):
    monkeypatch.setattr(calibrate_file, "COPY_BYTES", {"cpu": 2**60})
    monkeypatch.setattr(
        calibrate_file.psutil, "virtual_memory", lambda: type("Free", (), {"available": 8000})
    )

    assert time_copies(CPU, WallClock())[0] == 2000


# The cache


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Let the system tell these sizes of the caches."""

    def install(*sizes):
        for index, size in enumerate(sizes):
            (tmp_path / f"index{index}").mkdir()
            (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
        monkeypatch.setattr(calibrate_file, "CACHE", tmp_path)

    return install


@pytest.mark.parametrize(
    ("sizes", "largest"),
    [
        (("32K", "1024K", "36608K"), 36608 * 2**10),
        (("48K", "2M"), 2 * 2**20),
        (("64M", "512K"), 64 * 2**20),
        (("1G",), 2**30),
        (("32K", "unknown"), 32 * 2**10),
        (("32K", ""), 32 * 2**10),
        (("unknown",), 0),
        ((), 0),
    ],
)
def test_the_last_cache_is_the_largest_that_the_system_tells(caches, sizes, largest):
    caches(*sizes)

    assert cache_bytes(CPU) == largest


def test_a_system_that_tells_no_cache_has_0(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate_file, "CACHE", tmp_path / "missing")

    assert cache_bytes(CPU) == 0
