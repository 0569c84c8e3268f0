"""What pictures are tested with: a small demonstration store, and the frames of its records."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from benchmarking.demo import demo
from dashboards.data import Data
from dashboards.figures import FIGURES
from dashboards.view import ViewState
from results.records.store import Store
from results.tables.frames import SAMPLE_COLUMNS, TELEMETRY_COLUMNS, frame

OF_A_RECORD = {"samples": SAMPLE_COLUMNS, "telemetry": TELEMETRY_COLUMNS}


def view_of(path, **options):
    """The frames of a view, as the pages and the report have them."""
    data = Data([path], keep=False)
    data.refresh()
    return data.frames(ViewState(options=options))


def frames_of_store(path, run=None):
    """All frames, by name; those of a record are empty where none is named."""
    frames = view_of(path, level="modules", **({"run": run} if run else {}))
    made = {name: frames[name] for name in frames if run or name not in OF_A_RECORD}
    return {name: frame([], columns) for name, columns in OF_A_RECORD.items()} | made


def write_store(path, **constants):
    store = Store(path)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(demo, name, value)
        demo.write_demo(store, seed=0)
    return store


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory):
    """Three batch sizes, of which some are out of memory and some crash; four commits."""
    return write_store(
        tmp_path_factory.mktemp("demo"), BATCHES=(1, 4, 32), COMMITS=4, SLOWER_FROM=2
    )


@pytest.fixture(scope="session")
def records(demo_store):
    return demo_store.read().records


@pytest.fixture(scope="session")
def one_record(records):
    """A good one, of a GPU whose power cap was reached."""
    wanted = {"model": "vit_b", "precision": "bf16", "attention": "sdpa", "batch_size": 4}
    return next(
        record
        for record in records
        if record.gpu.name == "NVIDIA L4" and wanted.items() <= record.case.model_dump().items()
    )


@pytest.fixture(scope="session")
def write_records(tmp_path_factory):
    """Write chosen records to a store of their own; its path."""

    def write(records):
        store = Store(tmp_path_factory.mktemp("chosen") / "runs")
        store.path.mkdir()
        for record in records:
            store.write_record(record)
        return store.path

    return write


@pytest.fixture(scope="session")
def make_frames(write_records):
    """Maker of all frames of chosen records; those of one record are of the first."""

    def make(records):
        run = records[0].record_id if records else None
        return frames_of_store(write_records(records), run)

    return make


@pytest.fixture(scope="session")
def make_view(write_records):
    """Maker of the frames of chosen records as a page or a report takes them."""
    return lambda records, **options: view_of(write_records(records), **options)


@pytest.fixture(scope="session")
def demo_view(demo_store):
    return view_of(demo_store.path)


@pytest.fixture(scope="session")
def made_once(demo_store, one_record):
    return frames_of_store(demo_store.path, one_record.record_id)


@pytest.fixture
def frames(made_once):
    """By the names that figures and tables ask for; a test may change its own."""
    return {name: frame.copy() for name, frame in made_once.items()}


@pytest.fixture(scope="session")
def failed_once(records, make_frames):
    return make_frames([record for record in records if record.status != "ok"])


@pytest.fixture
def failed_frames(failed_once):
    return {name: frame.copy() for name, frame in failed_once.items()}


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

    def make(name, frame=None, **options):
        spec = FIGURES[name]
        return spec.make(frames[spec.frame] if frame is None else frame, **options)

    return make


@pytest.fixture
def one_series(frames):
    """Good cases of one device, model, precision and attention, by batch size."""
    words = {"gpu": "NVIDIA L4", "model": "vit_b", "precision": "bf16", "attention": "sdpa"}
    cases = frames["cases"]
    mine = np.logical_and.reduce([cases[axis] == word for axis, word in words.items()])
    return cases[mine & (cases["status"] == "ok")].sort_values("batch_size")


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
