"""What GPUs can do at most, found by the names that their drivers give them."""

from __future__ import annotations

import pytest

from results.hardware import PEAKS, find_peak

NAMES = {
    "NVIDIA H200": "H200",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA A100-SXM4-40GB": "A100 40GB",
    "NVIDIA A100-PCIE-40GB": "A100 40GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100",
    "NVIDIA L40": None,
    "NVIDIA GH200 480GB": None,
    "Tesla T4": None,
    "NVIDIA GeForce RTX 4090": None,
    "": None,
}


@pytest.mark.parametrize(("gpu", "row"), NAMES.items())
def test_a_peak_is_found_by_the_drivers_name(gpu, row):
    assert find_peak(gpu) is (PEAKS[row] if row else None)


@pytest.mark.parametrize("peak", PEAKS.values(), ids=PEAKS)
def test_a_peak_is_sane_and_names_its_source(peak):
    rates = [peak.flops_per_s[name] for name in ("fp32", "tf32", "bf16")]

    assert set(peak.flops_per_s) == {"fp32", "tf32", "bf16", "fp16"}
    assert 1e13 < rates[0] < rates[1] < rates[2] < 2e15
    assert peak.flops_per_s["bf16"] == peak.flops_per_s["fp16"]
    assert 2e11 < peak.bytes_per_s < 1e13
    assert "data sheet" in peak.source
