"""Files of schema 2: read, merged, verified, repaired and indexed as what they are."""

from __future__ import annotations

import json

import pytest

from results.answers.limits import with_roofs
from results.records.measurement import (
    ENCODER,
    EmbeddingError,
    Energy,
    Kernels,
    KernelTime,
    Modules,
    ModuleTiming,
    Pipeline,
)
from results.records.merge import MergeResult, merge
from results.records.quantities import SCHEMA_VERSION
from results.records.reading import BrokenFileError, OtherVersionError, parse_file
from results.records.repair import look_over, repair
from results.records.schema import Record, SweepEnd, SweepFile
from results.records.store import to_json
from results.records.upgrades import UPGRADES, parent_of, upgraded
from results.tables.frames import case_frame
from results.tables.index import refresh
from results.verdicts.baselines import Baseline, Session, check_fingerprint, fingerprint

from ..schema_2 import in_schema_2, text_in_schema_2, write_in_schema_2
from .merging import files, place_of

NAMES = {
    ENCODER: None,
    "patch_embed": ENCODER,
    "blocks.0": ENCODER,
    "blocks.0.attn": "blocks.0",
    "blocks.0.attn.qkv": "blocks.0.attn",
    "blocks.10": ENCODER,
    "encoder.layers.encoder_layer_0": ENCODER,
    "encoder.layers.encoder_layer_0.mlp": "encoder.layers.encoder_layer_0",
}


@pytest.fixture
def record(make_record, make_measurement):
    """With the result of every pass that schema 2 had."""
    timings = {
        name: ModuleTiming(total_s=(0.5,), self_s=(0.25,), kind="any", parent=parent)
        for name, parent in NAMES.items()
    }
    times = (KernelTime(module="blocks.0", kind="window", name="gemm", calls=4, total_s=4e-3),)
    measurement = make_measurement(
        modules=Modules(timings=timings, plain_forward_s=(0.5, 0.25)),
        components=Pipeline(stages_s={"decode": (0.5,)}, prompts=3),
        mask_generator=Pipeline(stages_s={"nms": (0.5,)}),
        embedding_error=EmbeddingError(relative_l2=0.25, max_abs=3.5),
        energy=Energy(joules=4.0, window_s=5.0, forwards=6),
        kernels=Kernels(forwards=2, times=times),
    )
    return make_record(measurement=measurement)


@pytest.fixture
def text(record):
    return text_in_schema_2(to_json(record))


@pytest.fixture
def changed(text):
    """Maker of the record's text in schema 2 with other values in its measurement."""

    def change(**changes):
        content = json.loads(text)
        content["measurement"] |= changes
        return json.dumps(content)

    return change


@pytest.fixture
def old_store(store_of, make_record):
    """A store of two records in schema 2."""
    store = store_of(make_record(), make_record(batch_size=8))
    write_in_schema_2(store.path)
    return store


# Reading


def test_every_older_version_has_its_way_to_the_next():
    assert list(UPGRADES) == list(range(2, SCHEMA_VERSION))


def test_a_record_of_schema_2_is_what_it_is_in_the_present_one(text, record):
    assert parse_file(text, Record) == record


def test_a_record_without_a_measurement_can_be_read(make_failure):
    record = make_failure()

    assert parse_file(text_in_schema_2(to_json(record)), Record) == record


def test_the_roofs_in_a_record_become_those_of_the_present_version(make_record, made_up_gpu):
    roofs = made_up_gpu.MadeUpGpu().roofs()
    (record,) = with_roofs([make_record()], [roofs])
    record = record.model_copy(update={"roofs": roofs})

    assert parse_file(text_in_schema_2(to_json(record)), Record) == record


@pytest.mark.parametrize(("name", "parent"), NAMES.items())
def test_a_module_is_contained_in_the_nearest_timed_one_that_its_name_tells(name, parent):
    assert parent_of(name, dict.fromkeys(NAMES)) == parent


def test_a_plan_of_schema_2_is_the_same(sweep):
    assert parse_file(text_in_schema_2(to_json(sweep)), SweepFile) == sweep


STRICT = {
    "an unknown field": ({"surprise": 1}, "'measurement.surprise': Extra inputs"),
    "a number as text": ({"parameters": "5"}, "'measurement.parameters': "),
    "a result that is none": ({"latency": [1]}, "'measurement.passes.latency': "),
    "modules that are none": ({"modules": [1]}, "'measurement.passes.modules.timings': "),
    "a module that is none": ({"modules": {"neck": 1}}, "'measurement.passes.modules.timings.neck"),
    "plain forwards that are none": (
        {"plain_forward_s": {}}, "'measurement.passes.modules.plain_forward_s': "
    ),
    "components that are none": ({"components_s": 4}, "'measurement.passes.components.stages_s': "),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), STRICT.values(), ids=STRICT)
def test_reading_stays_strict(changed, changes, reason):
    with pytest.raises(BrokenFileError, match="^" + reason.replace(".", r"\.")):
        parse_file(changed(**changes), Record)


@pytest.mark.parametrize("measurement", [4, [], "none"])
def test_a_measurement_that_is_none_is_refused(text, measurement):
    broken = json.dumps(json.loads(text) | {"measurement": measurement})

    with pytest.raises(BrokenFileError, match=r"^'measurement': "):
        parse_file(broken, Record)


@pytest.mark.parametrize("version", [0, 1, SCHEMA_VERSION + 1, 999])
def test_another_version_is_refused_with_those_that_can_be_read(text, version):
    other = json.dumps(json.loads(text) | {"schema_version": version})

    with pytest.raises(
        OtherVersionError,
        match=f"is {version}, and this version of sam-bench reads 2 to {SCHEMA_VERSION}$",
    ):
        parse_file(other, Record)


def test_what_is_of_the_present_version_is_left_as_it_is(record):
    content = json.loads(to_json(record))

    assert upgraded(content) is content


# Stores


def test_a_store_of_schema_2_is_read(old_store, make_record):
    contents = old_store.read()

    assert contents.problems == []
    assert contents.records == [make_record(), make_record(batch_size=8)]


def test_an_old_end_is_read(old_store, sweep):
    end = SweepEnd(
        sweep_id=sweep.sweep_id, ended_at="2025-01-02", planned=1, statuses={"ok": 1}, wall_s=1.0,
        measured_s=1.0,
    )  # fmt: skip
    old_store.write_end(end)
    path = old_store.path / sweep.sweep_id / "end.json"
    path.write_text(text_in_schema_2(path.read_text()))

    assert old_store.read_end(sweep.sweep_id) == end


def test_old_roofs_are_read(new_store, made_up_gpu):
    store, roofs = new_store(), made_up_gpu.MadeUpGpu().roofs()
    store.write_roofs(roofs)
    write_in_schema_2(store.path)

    assert store.read_roofs() == [roofs]


def test_an_old_store_is_verified_and_repaired_as_a_new_one(store_of, make_record):
    store = store_of(make_record())
    found = [look.is_fine for look in look_over(store)]
    write_in_schema_2(store.path)
    before = files(store)

    assert [look.is_fine for look in look_over(store)] == found == [True]
    assert list(repair(store)) == []
    assert files(store) == before


def test_the_index_of_an_old_store_is_that_of_a_new_one(store_of, old_store, make_record):
    new = store_of(make_record(), make_record(batch_size=8))
    frames = [refresh(store, keep=False).frames for store in (old_store, new)]

    assert all(frames[0][name].equals(frames[1][name]) for name in frames[0])


def test_frames_of_old_records_are_those_of_new_ones(text, record):
    assert case_frame([parse_file(text, Record)]).equals(case_frame([record]))


# Merging


@pytest.mark.parametrize("is_old_first", [True, False])
def test_the_same_records_of_two_versions_are_no_conflict(
    store_of, target, make_record, is_old_first
):
    old, new = store_of(make_record()), store_of(make_record())
    write_in_schema_2(old.path)
    merged = merge([old, new] if is_old_first else [new, old], target)

    assert merged == MergeResult(copied=2, same=2)
    assert target.read().records == [make_record()]


def test_roofs_of_two_versions_are_no_conflict(store_of, target, make_record, made_up_gpu):
    stores = [store_of(make_record()) for _ in range(2)]
    for store in stores:
        store.write_roofs(made_up_gpu.MadeUpGpu().roofs())
    write_in_schema_2(stores[0].path)

    assert merge(stores, target).conflicts == []


def test_other_content_of_another_version_is_a_conflict_still(store_of, target, make_record):
    old, new = store_of(make_record(wall_s=1.0)), store_of(make_record(wall_s=2.0))
    write_in_schema_2(old.path)
    merged = merge([old, new], target)

    assert len(merged.conflicts) == 1
    assert merged.conflicts[0].startswith(place_of(make_record()))


# Baselines


def test_a_baseline_of_schema_2_can_be_compared_with_new_sessions(make_record):
    found = fingerprint([make_record()])
    baseline = Baseline(
        name="l4", fingerprint=found | {"schema": "2"}, cases={"a": {"s": 0.5}},
        sessions=(Session(sweep_id="s", started_at="2025-01-02", commit=None),),
    )  # fmt: skip
    old = json.dumps(in_schema_2(json.loads(to_json(baseline))))
    read = parse_file(old, Baseline)

    check_fingerprint(read, found)
    assert read.fingerprint == found
