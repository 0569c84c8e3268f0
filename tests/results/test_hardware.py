"""What GPUs can do at most, found by the names that their drivers give them."""

from __future__ import annotations

import os

import pytest

from results.hardware import specs as hardware
from results.hardware.specs import (
    MAX_FILE_BYTES,
    SPECS,
    HardwareError,
    Row,
    find_gpu_model,
    find_spec,
    fits,
    read_specs,
    words,
)

NAMES = {
    "Tesla T4": "T4",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10G",
    "NVIDIA RTX A6000": "RTX A6000",
    "NVIDIA A100-SXM4-40GB": "A100 40GB",
    "NVIDIA A100-PCIE-40GB": "A100 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB PCIe",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H200": "H200",
    "NVIDIA H200 NVL": "H200 NVL",
    "NVIDIA GH200 480GB": "GH200",
    "NVIDIA GH200 144G HBM3e": "GH200 144G",
    "NVIDIA B200": "B200",
}
# Other GPUs than the rows that they look like, slices of them, and none at all.
STRANGERS = (
    "NVIDIA L40", "NVIDIA A100", "NVIDIA A100-SXM-64GB", "NVIDIA A40", "NVIDIA GB200",
    "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU", "Quadro RTX 6000",
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a GPU", "",
)  # fmt: skip
SECTION = 'fp32 = 1\ntf32 = 2\nbf16 = 3\nfp16 = 4.5\nmemory = 6\ncache = 7\nsource = "mine"\n'
L4 = f'["NVIDIA L4"]\n{SECTION}'
OURS = "NVIDIA L4"

# What a person may write, and what the error must tell of it.
WRONG = {
    "an unknown key": (L4 + "fp4 = 9", ["'fp4'", f"'{OURS}'", "Known: fp32, tf32, bf16, fp16"]),
    "a misspelt key": (L4.replace("memory", "memroy"), ["'memroy'", "is unknown"]),
    "a missing key": (f'["{OURS}"]\nfp32 = 1', ["memory", "GB/s", "got none"]),
    "text": (L4.replace("4.5", '"4.5"'), ["fp16", "number of TFLOP/s", "got '4.5'"]),
    "a truth value": (L4.replace("4.5", "true"), ["fp16", "got True"]),
    "a list": (L4.replace("4.5", "[1, 2]"), ["fp16", "got [1, 2]"]),
    "NaN": (L4.replace("4.5", "nan"), ["fp16", "got nan"]),
    "infinity": (L4.replace("4.5", "inf"), ["fp16", "got inf"]),
    "zero": (L4.replace("4.5", "0"), ["fp16", "above 0", "got 0"]),
    "a negative number": (L4.replace("= 6", "= -6"), ["memory", "above 0", "got -6"]),
    "no cache as zero": (L4.replace("= 7", "= 0"), ["cache", "number of MiB", "got 0"]),
    "a rate in FLOP/s": (L4.replace("4.5", "4.5e12"), ["at most 1000000", "got 4500000000000.0"]),
    "a number without end": (L4.replace("4.5", "0x" + "f" * 5000), ["fp16", "too long to show"]),
    "a decimal without end": (L4.replace("4.5", "9" * 5000), ["must be TOML", "5000 digits"]),
    "a source that is no text": (L4.replace('"mine"', "1"), ["source", "must be text", "got 1"]),
    "no section": ("fp32 = 30.3", ["must be a table", "'fp32' = 30.3"]),
    "a list of sections": (L4.replace("[", "[[").replace("]", "]]"), ["must be a table"]),
    "a section without a name": (f'[""]\n{SECTION}', ["a GPU's name above it", "''"]),
    "a name of dashes": (f'["--"]\n{SECTION}', ["a GPU's name above it", "'--'"]),
    "a name without quotes": (f"[{OURS}]\n{SECTION}", ["must be TOML", "in quotes", "line 1"]),
    "a name in parts": (f"[NVIDIA.L4]\n{SECTION}", ["'L4' of 'NVIDIA' is unknown"]),
    "a section twice": (L4 + L4, ["must be TOML", "twice"]),
    "deep brackets": ("a = " + "[" * 100_000, ["must be TOML"]),
    "no TOML": ("<html>", ["must be TOML", "line 1"]),
    "escape codes": ('["\\u001b[31m"]\nfp32 = 1', [r"'\x1b[31m'"]),
    "a long name": (f'["{"x" * 5000}"]\nfp32 = 1', ["xxx..."]),
    "other text than UTF-8": (L4.encode("utf-16"), ["must be UTF-8"]),
    "too much": (L4 + "#" * MAX_FILE_BYTES, ["may have 1000000 bytes"]),
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def written(content: str | bytes):
        path = tmp_path / "hardware.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.mark.parametrize(("gpu", "row"), NAMES.items())
def test_a_peak_is_found_by_the_drivers_name(gpu, row):
    assert find_spec(gpu) is SPECS[row]


@pytest.mark.parametrize("gpu", STRANGERS)
def test_no_other_gpus_peak_is_taken_for_a_name(gpu):
    assert find_spec(gpu) is None


def test_every_row_is_found_by_a_drivers_name():
    assert set(NAMES.values()) == set(SPECS)


def test_a_peak_is_found_in_any_case():
    assert find_spec("nvidia l4") is SPECS["L4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A100 80GB", {"a100", "80g"}),
        ("A100-80G", {"a100", "80g"}),
        ("NVIDIA A100-SXM4-80gb", {"nvidia", "a100", "sxm4", "80g"}),
        ("GB200 1g.10gb", {"gb200", "1g.10gb"}),  # neither is a memory
        ("  L4\t", {"l4"}),
        ("--", set()),
    ],
)
def test_a_name_is_told_by_its_words_whatever_their_case_and_how_gigabytes_are_written(text, told):
    assert words(text) == told


@pytest.mark.parametrize("row", ["A100 80GB", "A100 80G", "A100-80GB", "A100-80G", "80g a100"])
@pytest.mark.parametrize("gpu", ["A100-80G", "NVIDIA A100-SXM4-80GB", "nvidia a100 80gb"])
def test_a_row_fits_a_name_that_writes_its_memory_another_way(row, gpu):
    assert fits(row, gpu)


@pytest.mark.parametrize(
    ("row", "gpu"),
    [
        ("A100 80GB", "NVIDIA A100-SXM4-40GB"),
        ("A100-80G", "A100"),
        ("A100 8GB", "A100 80GB"),
        ("H100", "NVIDIA H100 NVL"),
        ("H100", "NVIDIA H1000"),
    ],
)
def test_a_row_fits_no_other_gpu(row, gpu):
    assert not fits(row, gpu)


@pytest.mark.parametrize("kind", SPECS)
def test_every_row_is_a_kind_that_can_be_asked_for_by_its_name(kind):
    assert find_gpu_model(kind) == find_gpu_model(f"nvidia-{kind.lower()}") == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("h100", "H100"),
        ("H100-PCIe", "H100 PCIe"),
        ("a100-80g", "A100 80GB"),
        ("NVIDIA A100 40G", "A100 40GB"),
        ("gh200 144gb", "GH200 144G"),
        ("rtx-4090", "RTX 4090"),
    ],
)
def test_a_persons_word_for_a_kind_is_told_as_the_table_spells_it(text, kind):
    assert find_gpu_model(text) == kind


@pytest.mark.parametrize("text", ["", "nvidia", "any", "A100", "H1000", "H100 80GB", "MI300X"])
def test_what_is_no_row_is_no_kind_of_the_table(text):
    assert find_gpu_model(text) is None


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_tensor_cores_are_no_slower_than_the_others(peak):
    rates = peak.flops_per_s

    assert 5e12 < rates["fp32"] <= rates.get("tf32", rates["fp32"]) < rates["fp16"] < 5e15


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_a_half_is_twice_as_fast_as_tf32(peak):
    rates = peak.flops_per_s

    assert rates["fp16"] == pytest.approx(2 * rates.get("tf32", rates["fp16"] / 2), rel=0.02)


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_both_halves_are_as_fast(peak):
    assert peak.flops_per_s.get("bf16", peak.flops_per_s["fp16"]) == peak.flops_per_s["fp16"]


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_memory_and_cache_are_of_a_gpus_size(peak):
    assert 2e11 < peak.bytes_per_s < 1e13
    assert 2**22 <= peak.cache_bytes < 2**28


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_a_peak_names_its_source_and_the_year(peak):
    assert peak.source.startswith("NVIDIA ")
    assert ", 20" in peak.source


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_a_source_tells_whether_the_rates_were_printed_with_sparsity(peak):
    assert ("dense" in peak.source) or ("halved" in peak.source)


def test_a_precision_that_a_gpu_lacks_is_absent():
    assert set(SPECS["T4"].flops_per_s) == {"fp32", "fp16", "int8"}


# Dense, as NVIDIA's data sheets print them, halved where they print them with sparsity.
@pytest.mark.parametrize(
    ("gpu", "fp8", "int8"),
    [
        ("L4", 242, 242), ("L40S", 733, 733), ("H100", 1979, 1979), ("H200", 1979, 1979),
        ("H100 PCIe", 1513, 1513), ("H100 NVL", 1671, 1671), ("B200", 4500, 4500),
        ("RTX 4090", 330.4, 660.6), ("A100 40GB", 0, 624), ("A100 80GB", 0, 624),
        ("A100 80GB PCIe", 0, 624), ("T4", 0, 130), ("A10", 0, 250),
    ],
)  # fmt: skip
def test_rates_of_eight_bits_are_those_of_the_data_sheet(gpu, fp8, int8):
    rates = {name: rate / 1e12 for name, rate in SPECS[gpu].flops_per_s.items()}

    assert rates.get("fp8", 0) == pytest.approx(fp8, rel=1e-3)
    assert rates["int8"] == pytest.approx(int8, rel=1e-3)


@pytest.mark.parametrize(
    "gpu", ["T4", "A10", "A10G", "RTX A6000", "A100 40GB", "A100 80GB", "A100 80GB PCIe"]
)
def test_a_gpu_older_than_ada_has_no_fp8(gpu):
    assert "fp8" not in SPECS[gpu].flops_per_s


@pytest.mark.parametrize("peak", SPECS.values(), ids=SPECS)
def test_eight_bits_are_at_least_twice_as_fast_as_a_half(peak):
    rates = peak.flops_per_s

    assert rates.get("fp8", 2 * rates["fp16"]) == pytest.approx(2 * rates["fp16"])
    assert rates["int8"] >= 2 * rates["fp16"]


def test_a_persons_row_takes_fp8_and_int8(write):
    peak = read_specs(write(L4 + "fp8 = 8\nint8 = 9"))[OURS]

    assert (peak.flops_per_s["fp8"], peak.flops_per_s["int8"]) == (8e12, 9e12)


@pytest.mark.parametrize("key", ["fp8", "int8"])
def test_a_persons_row_may_have_one_of_them_alone(write, key):
    peak = read_specs(write(L4 + f"{key} = 8"))[OURS]

    assert set(peak.flops_per_s) == {"fp32", "tf32", "bf16", "fp16", key}


@pytest.mark.parametrize(("key", "unit"), [("fp8", "TFLOP/s"), ("int8", "TOP/s")])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "true"])
def test_a_wrong_rate_of_eight_bits_is_refused_with_its_unit(write, key, unit, value):
    with pytest.raises(HardwareError, match=f"{key}.*number of {unit}"):
        read_specs(write(L4 + f"{key} = {value}"))


def test_a_figure_is_stored_in_base_units(write):
    peak = read_specs(write(L4))[OURS]

    assert peak.flops_per_s == {"fp32": 1e12, "tf32": 2e12, "bf16": 3e12, "fp16": 4.5e12}
    assert (peak.bytes_per_s, peak.cache_bytes, peak.source) == (6e9, 7 * 2**20, "mine")


def test_what_may_be_left_out_is(write):
    peak = read_specs(write(f'["{OURS}"]\nfp32 = 1\nmemory = 6'))[OURS]

    assert peak.flops_per_s == {"fp32": 1e12}
    assert (peak.cache_bytes, peak.source) == (0, "hardware.toml")


def test_a_persons_row_wins_over_the_tables(write):
    own = read_specs(write(L4))

    assert find_spec(OURS, own) is own[OURS]


def test_a_persons_less_particular_row_wins_too(write):
    own = read_specs(write(L4.replace(OURS, "H100")))

    assert find_spec("NVIDIA H100 PCIe", own) is own["H100"]


def test_a_persons_most_particular_row_wins(write):
    own = read_specs(write(f'["NVIDIA"]\n{SECTION}\n["NVIDIA A40"]\n{SECTION}'))

    assert find_spec("NVIDIA A40", own) is own["NVIDIA A40"]


def test_a_persons_rows_leave_the_table_for_other_gpus(write):
    assert find_spec("NVIDIA L40S", read_specs(write(L4))) is SPECS["L40S"]


def test_a_person_can_give_a_row_for_a_slice(write):
    own = read_specs(write(L4.replace(OURS, "H100 MIG 1g.10gb")))

    assert find_spec("NVIDIA H100 80GB HBM3 MIG 1g.10gb", own) is own["H100 MIG 1g.10gb"]


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_file_has_no_rows(write, content):
    assert read_specs(write(content)) == {}


def test_no_file_has_no_rows(tmp_path):
    assert read_specs(tmp_path / "none" / "hardware.toml") == {}


def test_a_byte_order_mark_is_let_pass(write):
    assert set(read_specs(write(L4.encode("utf-8-sig")))) == {OURS}


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_what_is_wrong(write, content, told):
    path = write(content)

    with pytest.raises(HardwareError) as caught:
        read_specs(path)

    assert [part for part in (str(path), "Correct", *told) if part not in str(caught.value)] == []


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_an_error_is_one_printable_line(write, content, told):
    path = write(content)

    with pytest.raises(HardwareError) as caught:
        read_specs(path)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_path_that_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "hardware.toml")

    with pytest.raises(HardwareError, match="must be a file"):
        read_specs(tmp_path / "hardware.toml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "hardware.toml"
    path.symlink_to(path)

    with pytest.raises(HardwareError, match="must be readable"):
        read_specs(path)


def test_every_key_is_shown_in_the_docstring():
    assert [key for key in Row.model_fields if f"{key} = " not in hardware.__doc__] == []
