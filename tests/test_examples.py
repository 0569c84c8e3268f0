"""The notebooks run from top to bottom, and are stored as a run leaves them."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell shows: a type of stream, or of data."""
    return [output.get("name") or sorted(output.data)[0] for output in cell.outputs]


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.stem)
def stored(request):
    return nbformat.read(request.param, as_version=4)


def test_a_notebook_is_stored_as_it_ran_from_the_top(stored):
    cells = code_cells(stored)

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_a_notebook_runs_and_shows_what_the_stored_one_shows(stored, tmp_path):
    again = nbformat.from_dict(stored)
    client = nbclient.NotebookClient(again, timeout=600, resources={"metadata": {"path": tmp_path}})
    client.execute()  # an error in a cell is raised here

    assert list(map(kinds, code_cells(again))) == list(map(kinds, code_cells(stored)))
    assert any("image/jpeg" in kinds(cell) for cell in code_cells(again))
