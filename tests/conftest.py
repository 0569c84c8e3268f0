"""The order of all tests, and what each process of them may take of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BROWSER = Path(__file__).parent / "dashboards" / "browser"
LONGEST = ("test_readme.py", "test_true_gate.py", "test_examples.py", "test_image_encoder.py")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes of two threads each would wait for one another on two cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if not os.path.exists("/dev/nvidiactl"):
    # Triton decides as it reads a kernel whether to compile it for a GPU or to interpret it.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The longest files first, so that no process waits for one of them in the end; a browser's
    last: playwright's event loop stays in its thread, where a notebook's could not run then.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: (
            BROWSER in item.path.parents,
            places.get(item.path.name, len(LONGEST)),
        )
    )
