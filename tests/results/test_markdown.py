"""Tables of texts that anybody may have written, as GitHub's readers and Markdown's see them."""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from results.tables.markdown import cell, line, table

HOSTILE = [
    "a|b", "|", "||", "a\\|b", "\\", "\\\\", "a\\", "a\\\\|b", "|\\", "a\nb", "a\r\n| c | d |",
    "\n", "a\n\n# heading", "a\x0bb\x0cc\x1cd\x85e", "a\u2028b\u2029c", "`a|b`", "`", "``|``",
    "a`|`b", "@org/team", "@ada", "mail@example.org", "#1", "org/repo#1", "GH-1", "gh-22",
    "_GH-1_", "&commat;org/team", "&#64;ada", "&num;1", "&#x23;1", "&lt;b&gt;", "&amp;lt;",
    "</details>", "<!--", "<script>alert(1)</script>", "<img src=x onerror=a>", "<a@b.example>",
    "<https://evil.example>", "http://evil.example", "https://evil.example/?a|b",
    "www.evil.example", "HTTPS://EVIL.example", "ftp://evil.example", "_https://evil.example_",
    "(www.evil.example)", "*http://evil.example*", "[text](http://evil.example)", "[text][1]",
    "![alt](http://evil.example/x.png)", "[ ]", "[x]", "[^1]", "]", "!",
]  # fmt: skip

parser = MarkdownIt("commonmark", {"html": True}).enable("table")


def rendered_cells(text):
    """Of a table's HTML, the content of each cell, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", parser.render(text), re.DOTALL)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def shown(rendered):
    """The text that a reader sees; what is invisible is left out."""
    return html.unescape(rendered).replace("\u200b", "")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_ends_its_cell_or_its_row(text):
    made = table(["a", "b", "c"], [["x", text, "y"], [text, text, text]])
    rows = rendered_cells(made)

    assert len(made.splitlines()) == 4
    assert [len(row) for row in rows] == [3, 3, 3]
    assert (rows[1][0], rows[1][2]) == ("x", "y")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_becomes_html_a_link_an_image_or_code(text):
    (_, (rendered, _)) = rendered_cells(table(["a", "b"], [[text, ""]]))

    assert set(re.findall(r"</?([a-z]+)", rendered)) <= {"em", "strong"}
    assert "<!--" not in rendered


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_that_is_shown_calls_a_person_an_issue_or_a_page(text):
    (_, (rendered, _)) = rendered_cells(table(["a", "b"], [[text, ""]]))
    seen = html.unescape(re.sub(r"</?(em|strong)>", "", rendered))

    assert not re.search(r"@\w", seen)
    assert not re.search(r"#\d", seen)
    assert not re.search(r"(?i)gh-\d", seen)
    assert not re.search(r"(?i)(https?|ftp)://|www\.", seen)


@pytest.mark.parametrize(
    "text", [each for each in HOSTILE if not re.search(r"[_*]", each)], ids=ascii
)
def test_a_reader_sees_the_text_itself(text):
    (_, (rendered, _)) = rendered_cells(table(["a", "b"], [[text, ""]]))

    assert shown(rendered) == " ".join(text.split())


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_heading_is_no_safer_than_a_cell(text):
    made = table([text, "b"], [["x", "y"]])

    assert [len(row) for row in rendered_cells(made)] == [2, 2]
    assert made.startswith(f"| {cell(text)} | b |\n")


@pytest.mark.parametrize(
    "text", ["NVIDIA L4", "vit_b b4 1024px", "12.50", "-", "a & b", "50 %", "naïve", "1 < 2", "~"]
)
def test_what_is_harmless_reads_as_it_is(text):
    (_, (rendered, _)) = rendered_cells(table(["a", "b"], [[text, ""]]))

    assert html.unescape(rendered) == text


@pytest.mark.parametrize("text", ["path-1", "highGH-1", "weights-3", "shttp:", "version 1.0"])
def test_words_that_only_look_like_links_are_left_alone(text):
    assert cell(text) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "None"), (1.5, "1.5"), (True, "True"), ("", "")]
)
def test_any_value_has_its_text(value, text):
    assert cell(value) == text


def test_a_table_has_a_head_a_rule_and_a_line_a_row():
    assert table(["a", "b"], [["1", 2], ["3", None]]).splitlines() == [
        "| a | b |", "| --- | --- |", "| 1 | 2 |", "| 3 | None |",
    ]  # fmt: skip


def test_a_table_without_rows_has_its_head():
    assert table(["a"], []) == "| a |\n| --- |\n"


def test_a_line_ends_nothing_but_itself():
    assert line(["a", "b\nc"]) == "| a | b c |"
