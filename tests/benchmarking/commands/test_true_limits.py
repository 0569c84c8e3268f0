"""Limits and causes of a true sweep on this CPU, as if it had been calibrated."""

from __future__ import annotations

import pytest

from benchmarking.views.views import VIEWS
from results.answers.batching import batching_frame, image_s
from results.answers.limits import with_roofs
from results.records.store import Store


def sentences(by, records):
    show = VIEWS[by]
    return [sentence for view in show.views(show.frame(records, {})) for sentence in view.sentences]


@pytest.fixture
def true_records(true_sweep, made_up_gpu):
    """Of a true sweep on this CPU, as if it had been calibrated."""
    records = Store(true_sweep.store).read().records
    one = records[0]
    roofs = made_up_gpu.MadeUpGpu().roofs(
        device=one.environment.device_name("cpu"),
        torch=one.environment.torch,
        threads=one.measurement.flags["threads"],
        products={"fp32": made_up_gpu.MadeUpGpu().roofs().products["bf16"]},
    )
    return with_roofs(records, [roofs])


def test_the_changes_of_a_true_sweep_add_up_to_the_measured_ones(true_records):
    steps = batching_frame(true_records).groupby("to_batch")["change_s"].sum()
    per_image = {record.case.batch_size: image_s(record) for record in true_records}

    assert dict(steps) == {
        2: pytest.approx(per_image[2] - per_image[1], rel=1e-9),
        4: pytest.approx(per_image[4] - per_image[2], rel=1e-9),
    }


def test_the_causes_of_a_true_sweep_are_known_once_it_is_calibrated(true_records):
    assert set(batching_frame(true_records)["cause"]) <= {"compute", "memory"}


def test_a_true_sweep_has_its_sentences(true_records):
    (limit,), (step,) = sentences("limits", true_records), sentences("batching", true_records)

    assert "times the best possible" in limit
    assert "from batch 1 to 4 an image takes" in step
