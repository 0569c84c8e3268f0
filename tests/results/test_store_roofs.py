"""What a store keeps beside its sweeps: what devices reached, and a person's own peaks."""

from __future__ import annotations

import json

import pytest

from results.hardware.specs import HardwareError, Spec, store_specs
from results.records.measurement import MeasuredRoofs
from results.records.repair import look_over
from results.records.store import ROOFS, Store, StoreError, to_json


@pytest.fixture
def make_roofs(made_up_gpu):
    return made_up_gpu.MadeUpGpu().roofs


@pytest.fixture
def roofs(make_roofs):
    return make_roofs(cache_bytes=2**25)


def test_roofs_come_back_from_the_store(store, roofs):
    store.write_roofs(roofs)

    assert store.read_roofs() == [roofs]


def test_roofs_come_back_from_json_with_seven_digits_of_a_time(make_roofs):
    roofs = make_roofs(copy_s=(1 / 3,))

    assert MeasuredRoofs.model_validate_json(to_json(roofs)).copy_s == (0.3333333,)


def test_a_store_without_roofs_has_none(tmp_path):
    assert Store(tmp_path / "none").read_roofs() == []


@pytest.mark.parametrize("changes", [{"measured_at": "2030"}, {"cache_bytes": 1}], ids=str)
def test_new_roofs_of_the_same_device_replace_the_old_ones(store, make_roofs, changes):
    store.write_roofs(make_roofs())
    store.write_roofs(make_roofs(**changes))

    assert store.read_roofs() == [make_roofs(**changes)]


@pytest.mark.parametrize(
    "changes", [{"device": "GPU-1"}, {"torch": "2.14.0"}, {"threads": 1}], ids=str
)
def test_roofs_of_another_device_torch_or_threads_are_kept_beside(store, make_roofs, changes):
    store.write_roofs(make_roofs())
    store.write_roofs(make_roofs(**changes))

    assert {each.model_dump_json() for each in store.read_roofs()} == {
        each.model_dump_json() for each in (make_roofs(), make_roofs(**changes))
    }


@pytest.mark.parametrize("device", ["../../etc/passwd", "a/b", "x" * 5000, "ü \n"], ids=ascii)
def test_a_device_s_name_can_not_leave_the_folder(store, make_roofs, device):
    path = store.write_roofs(make_roofs(device=device))

    assert path.parent == store.path / ROOFS
    assert store.read_roofs() == [make_roofs(device=device)]


def changed(roofs, **changes):
    return json.dumps(json.loads(roofs.model_dump_json()) | changes)


BROKEN = {
    "half": lambda roofs: to_json(roofs)[:100],
    "empty": lambda roofs: "",
    "NaN": lambda roofs: to_json(roofs).replace("0.002", "NaN"),
    "another version": lambda roofs: changed(roofs, schema_version=99),
    "nothing copied": lambda roofs: changed(roofs, copied_bytes=0),
    "no sample": lambda roofs: changed(roofs, copy_s=[]),
    "unknown field": lambda roofs: changed(roofs, surprise=1),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_file_of_roofs_that_can_not_be_used_is_passed_over(store, make_roofs, spoil):
    good, bad = make_roofs(), make_roofs(device="GPU-1")
    store.write_roofs(good)
    store.write_roofs(bad).write_text(spoil(bad))

    assert store.read_roofs() == [good]


def test_a_store_in_place_of_which_there_is_a_file_is_told_in_one_line(tmp_path, roofs):
    (tmp_path / "runs").touch()

    with pytest.raises(StoreError, match=r"^'[^\n]*' can't be written: [^\n]*--store[^\n]*$"):
        Store(tmp_path / "runs").write_roofs(roofs)


def test_roofs_are_no_sweep(store, sweep, make_record, roofs):
    store.write_record(make_record())
    store.write_roofs(roofs)

    assert store.sweep_ids() == [sweep.sweep_id]
    assert store.read().problems == []


def test_a_store_with_roofs_and_peaks_is_fine(store, make_record, roofs):
    store.write_record(make_record())
    store.write_roofs(roofs)
    (store.path / "hardware.toml").write_text('["NVIDIA L4"]\nfp32 = 1\nmemory = 6\n')

    assert [look.is_fine for look in look_over(store)] == [True]


def test_roofs_come_back_with_the_record_that_was_made_with_them(store, make_record, roofs):
    store.write_record(make_record(roofs=roofs))

    assert store.read().records[0].roofs == roofs


# A person's own peaks


def test_a_person_s_peaks_are_read_from_the_store(store):
    (store.path / "hardware.toml").write_text('["NVIDIA L4"]\nfp32 = 1\nmemory = 6\n')

    assert store_specs(store.path) == {"NVIDIA L4": Spec({"fp32": 1e12}, 6e9, 0, "hardware.toml")}


def test_a_store_without_a_file_of_peaks_has_none(tmp_path):
    assert store_specs(Store(tmp_path / "none").path) == {}


def test_a_file_of_peaks_that_is_wrong_is_refused_with_its_path(store):
    path = store.path / "hardware.toml"
    path.write_text('["NVIDIA L4"]\nfp32 = "fast"\n')

    with pytest.raises(HardwareError, match="fp32 of 'NVIDIA L4'") as caught:
        store_specs(store.path)

    assert str(path) in str(caught.value)
