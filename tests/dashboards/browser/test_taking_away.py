"""What a person takes away from a page: a command, a table, a figure, the view as one file."""

from __future__ import annotations

import pytest

# Of each form: what a file of it begins with.
FILES = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "SVG": b"<svg ",
    "CSV": b"device_name,model,batch_size,",
    "Markdown": b"| device name | model | ",
}
ENDINGS = {"PNG": "png", "SVG": "svg", "CSV": "csv", "Markdown": "md"}


@pytest.fixture
def clipboard(context, base_url):
    """What was copied last."""
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=base_url)
    return lambda page: page.evaluate("() => navigator.clipboard.readText()")


@pytest.fixture
def saved(look, tmp_path):
    """Click a button of a panel; gives the file's name and content."""

    def save(panel, button):
        with look.page.expect_download() as found:
            panel.get_by_role("button", name=button, exact=True).click()
        path = tmp_path / found.value.suggested_filename
        found.value.save_as(path)
        return path.name, path.read_bytes()

    return save


def test_the_command_is_copied(look, good_record, clipboard):
    look.open(f"/run?run={good_record.record_id}")
    look.page.get_by_role("button", name="Copy the command").click()

    look.until(lambda: clipboard(look.page) == good_record.command)


def test_a_comparison_is_copied_as_markdown(look, clipboard):
    look.open("/compare")
    look.page.get_by_role("button", name="Copy as Markdown").click()

    look.until(lambda: clipboard(look.page).startswith("| model | batch size | "))


@pytest.mark.parametrize("form", FILES)
def test_a_figure_is_saved(look, saved, form):
    look.open("/memory?model=vit_b")
    name, content = saved(look.panel("memory"), form)

    assert name == f"sam-bench-memory.{ENDINGS[form]}"
    assert content.startswith(FILES[form])


@pytest.mark.parametrize("form", ["CSV", "Markdown"])
def test_a_table_is_saved_as_it_is_filtered(look, saved, form):
    look.open("/scaling?model=vit_b")
    name, content = saved(look.panel("capacity"), form)

    assert name == f"sam-bench-capacity-table.{ENDINGS[form]}"
    assert b"vit_b" in content
    assert b"vit_h" not in content


def test_the_view_is_saved_as_one_page(look, saved):
    look.open("/?model=vit_b")
    name, content = saved(look.page.locator("#side"), "All of this as one file")

    assert name == "sam-bench.html"
    assert content.startswith(b"<!doctype html>")
