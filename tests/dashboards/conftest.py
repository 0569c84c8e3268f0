"""What pictures are tested with: a small demonstration store, and the frames of its records."""

from __future__ import annotations

import shutil

import pytest

from benchmarking import demo
from dashboards.figures import FIGURES
from results.batching import batching_frame
from results.capacity import capacity_frame
from results.frames import case_frame, component_frame, limits_frame, module_frame
from results.store import Store


def frames_from(records):
    return {
        "cases": case_frame(records),
        "components": component_frame(records),
        "modules": module_frame(records),
        "limits": limits_frame(records),
        "batching": batching_frame(records),
        "capacity": capacity_frame(records),
    }


def write_store(path, **constants):
    store = Store(path)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(demo, name, value)
        demo.write_demo(store, seed=0)
    return store


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Three batch sizes, of which some are out of memory and some crash; four commits."""
    store = write_store(
        tmp_path_factory.mktemp("demo"), BATCHES=(1, 4, 32), COMMITS=4, SLOWER_FROM=2
    )
    return store.read().records


@pytest.fixture(scope="session")
def make_frames():
    return frames_from


@pytest.fixture(scope="session")
def made_once(records):
    return frames_from(records)


@pytest.fixture
def frames(made_once):
    """By the names that figures and tables ask for; a test may change its own."""
    return {name: frame.copy() for name, frame in made_once.items()}


@pytest.fixture
def failed_frames(records):
    return frames_from([record for record in records if record.status != "ok"])


@pytest.fixture
def measured_frames(frames):
    """As if they had been measured: nothing of them is synthetic."""
    return {
        name: frame.assign(is_synthetic=False) if "is_synthetic" in frame else frame
        for name, frame in frames.items()
    }


@pytest.fixture
def draw(frames):
    """Draw a figure by its name, of the demonstration's frames or of others."""

    def make(name, frame=None):
        spec = FIGURES[name]
        return spec.make(frames[spec.frame] if frame is None else frame)

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder of the fewest records, for those who copy it."""
    folder = tmp_path_factory.mktemp("tiny") / "runs"
    write_store(
        folder, BATCHES=(1, 32), COMMITS=1, GPUS=demo.GPUS[:1], MODELS_SHOWN=("vit_b",),
        PRECISIONS_SHOWN=("fp32", "bf16"),
    )  # fmt: skip
    return folder


@pytest.fixture
def store(tiny, tmp_path):
    """The fewest records, for this test alone to change."""
    shutil.copytree(tiny, tmp_path / "runs")
    return Store(tmp_path / "runs")
