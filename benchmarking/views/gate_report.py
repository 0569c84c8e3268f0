"""What a gate says: a table for a terminal, a comment for a pull request, JUnit's XML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from results.records.errors import printable
from results.tables import markdown
from results.tables.metrics import METRICS
from results.verdicts.decision import Verdict
from results.verdicts.gates import Cell, GateFile, Side

from ..gate.gate import EXIT_CODES
from .printing import TextTable, text_headings

MOST_COMMENT_BYTES = 60_000  # GitHub refuses a comment of more than 65,536 characters
HEADINGS = (
    *text_headings("verdict", "case"), "base\n[ms]", "head\n[ms]", "change\n[%]", "95 %\n[%]",
    "pairs", "sees",
)  # fmt: skip
MODULE_HEADINGS = ["module", "kind", "change [%]", "lost [ms]"]
ORDER = {verdict: number for number, verdict in enumerate(EXIT_CODES)}
SHORT_COMMIT = 12
MEANING: dict[Verdict, str] = {
    "REGRESSED": "slower, and surely so",
    "FAILED": "the base measures it, the head does not",
    "NOT_COMPARABLE": "no pair was valid",
    "CLOCK_DRIVEN": "slower in time, not in cycles of the clock",
    "INCONCLUSIVE": "too noisy to tell after all pairs",
    "IMPROVED": "faster, and surely so",
    "OK": "not slower by what would be reported",
}


def gate_view(gate: GateFile) -> TextTable:
    """A row a cell, what needs a look first."""
    worst = sorted(gate.cells, key=lambda cell: ORDER[cell.verdict])
    title, rule = f"{gate.base.label} against {gate.head.label}: {headline(gate)}", gate.rule
    view = TextTable(title, HEADINGS, [row(cell) for cell in worst])
    view.caption = (
        f"{len(gate.pairs)} pairs of launches, seed {gate.seed}; a change counts from "
        f"{rule.smallest:.1%}, tested against {rule.margin:.1%}; sees: the least change that this "
        "machine can see, where selftest has told"
    )
    for cell in worst:
        view.sentences += [f"{cell.label}: {told}" for told in remarks(cell)]
    view.sentences += gate.notes
    return view


def headline(gate: GateFile) -> str:
    """'REGRESSED, 1 of 20 cells', or what else is the worst."""
    counts = Counter(cell.verdict for cell in gate.cells if cell.accepted is None)
    accepted = sum(cell.accepted is not None for cell in gate.cells)
    worst = next((verdict for verdict in ORDER if counts[verdict]), None)
    if worst is None:
        told = "OK" if accepted else "nothing was compared"
    else:
        told = f"{worst}, {counts[worst]} of {len(gate.cells)} cells"
    return told + (f", {accepted} slower as accepted" if accepted else "")


def row(cell: Cell) -> list[str]:
    times = (math.nan if each is None else each for each in (cell.base_s, cell.head_s))
    bounds = (cell.ratio_low, cell.ratio_high)
    interval = f"{percent(bounds[0])} .. {percent(bounds[1])}" if None not in bounds else "-"
    seen = "-" if cell.sees is None else f"{cell.sees:.1%}"
    return [
        cell.verdict + (" (accepted)" if cell.accepted else ""), cell.label,
        *map(METRICS["median_s"].show, times), percent(cell.ratio), interval, str(cell.pairs), seen,
    ]  # fmt: skip


def percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{(ratio - 1) * 100:+.2f}"


def remarks(cell: Cell) -> list[str]:
    """What a person should know of a cell, besides its row."""
    told = []
    if cell.reason is not None:
        told.append(cell.reason)
    if cell.accepted is not None:
        told.append(f"accepted by {cell.accepted.author}: {cell.accepted.reason}")
    if cell.is_output_same is False:
        told.append("the two compute different outputs")
    if cell.modules:
        show = METRICS["median_s"].show
        lost = (
            f"{each.module} ({each.kind}) {show(each.lost_s)} ms {percent(each.ratio)} %"
            for each in cell.modules
        )
        told.append(f"lost in {', '.join(lost)}")
    return told


def comment(gate: GateFile) -> str:
    """Markdown for a pull request; whatever its texts are, it is of a size that is taken."""
    attention = [cell for cell in gate.cells if cell.verdict != "OK"]
    attention.sort(key=lambda cell: (ORDER[cell.verdict], -(cell.ratio or 0)))
    fine = [cell for cell in gate.cells if cell.verdict == "OK"]
    machine, environment = "an unknown machine", gate.environment
    if environment is not None:
        name = ", ".join(gpu.name for gpu in environment.gpus) or environment.cpu
        machine = f"{name}, torch {environment.torch}"
    head = (
        f"### sam-bench: {markdown.cell(headline(gate))}\n\n"
        f"{named(gate.base)} against {named(gate.head)}, "
        f"{markdown.cell(machine)}, {len(gate.pairs)} pairs of launches.\n"
    )
    found = {cell.verdict for cell in gate.cells}
    legend = "; ".join(f"{verdict}: {MEANING[verdict]}" for verdict in ORDER if verdict in found)
    foot = "\n".join(["", *(f"- {markdown.cell(note)}" for note in gate.notes), "", legend])
    room = MOST_COMMENT_BYTES - len((head + foot).encode()) - 1000  # for what frames the tables
    parts, room = [], max(room, 0)
    are_fine = "1 cell is OK" if len(fine) == 1 else f"{len(fine)} cells are OK"
    for cells, title in ((attention, ""), (fine, are_fine)):
        if not cells:
            continue
        text, shown = fitted(cells, room)
        room -= len(text.encode())
        left_out = f"\n{shown} of {len(cells)} shown.\n" if shown < len(cells) else ""
        body = f"{text}{left_out}"
        if title:
            body = f"<details><summary>{title}</summary>\n\n{body}\n</details>\n"
        parts.append(body)
    return cut("\n".join([head, *parts, foot]).strip() + "\n")


def fitted(cells: Sequence[Cell], room: int) -> tuple[str, int]:
    """A table of as many cells as there is room for, with remarks; and how many those are."""
    lines = markdown.table(HEADINGS, []).splitlines()
    below: list[str] = []
    used, shown = sum(len(line) + 1 for line in lines), 0
    for cell in cells:
        own = markdown.line(row(cell))
        said = [f"- {markdown.cell(cell.label)}: {markdown.cell(each)}" for each in remarks(cell)]
        size = sum(len(line.encode()) + 1 for line in (own, *said))
        if used + size > room:
            continue
        used, shown = used + size, shown + 1
        lines.append(own)
        below += said
    return "\n".join([*lines, "", *below]) + "\n", shown


def named(side: Side) -> str:
    short = f" ({side.commit[:SHORT_COMMIT]})" if side.commit else ""
    return markdown.cell(f"{side.label}{short}")


def cut(text: str) -> str:
    """Never more bytes than are taken, also where single labels are endless; what would drive a
    terminal is left out of it.
    """
    text = printable(text, keep="\n" + markdown.INVISIBLE)
    content = text.encode()
    if len(content) <= MOST_COMMENT_BYTES:
        return text
    note = "\n\nCut: the whole is in the gate's own file.\n"
    return content[: MOST_COMMENT_BYTES - len(note)].decode(errors="ignore") + note


FAILING = ("REGRESSED", "FAILED", "DIFFERS")
UNCLEAR = ("NOT_COMPARABLE", "CLOCK_DRIVEN", "INCONCLUSIVE")
Finding = tuple[str, str, str]  # a name, a verdict, and what is to say of it


def junit(suite: str, findings: Iterable[Finding]) -> str:
    """JUnit's XML: a test case a finding, failed where its verdict would fail a gate."""
    findings = list(findings)
    failed = [verdict for _, verdict, _ in findings if verdict in FAILING]
    unclear = [verdict for _, verdict, _ in findings if verdict in UNCLEAR]
    root = ElementTree.Element(
        "testsuite", name=suite, tests=str(len(findings)), failures=str(len(failed)), errors="0",
        skipped=str(len(unclear)),
    )  # fmt: skip
    for name, verdict, told in findings:
        case = ElementTree.SubElement(root, "testcase", classname=suite, name=printable(name))
        text = printable(told)
        if verdict in FAILING:
            ElementTree.SubElement(case, "failure", message=f"{verdict}: {text}")
        elif verdict in UNCLEAR:
            ElementTree.SubElement(case, "skipped", message=f"{verdict}: {text}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def gate_findings(gate: GateFile) -> list[Finding]:
    """Of each cell; one that is slower as accepted is fine."""
    return [
        (
            cell.label,
            "OK" if cell.accepted else cell.verdict,
            "; ".join([f"{percent(cell.ratio)} %, {percent(cell.ratio_low)} .. "
                       f"{percent(cell.ratio_high)} %", *remarks(cell)]),
        )
        for cell in gate.cells
    ]  # fmt: skip
