"""What a person sees while the gate runs: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from results.records.errors import printable
from results.verdicts.gates import GateFile, Side

from ..gate.gate import GateWatcher
from .gate_report import percent
from .progress import duration

MOST_ROWS = 30  # of a live table: more would not fit on a terminal


class PlainGateWatcher:
    """A line a pair, and one a cell at each look."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def launch_begins(self, gate: GateFile, pair: int, side: Side) -> None:
        """Its line comes when the pair ends."""

    def pair_ends(self, gate: GateFile, next_look: int) -> None:
        last = gate.pairs[-1]
        order = "head, base" if last.is_head_first else "base, head"
        self.say(f"[{len(gate.pairs)}/{next_look}] {order} in {duration(last.wall_s)}")

    def look_ends(self, gate: GateFile, next_look: int | None) -> None:
        for cell in gate.cells:
            change = f"{percent(cell.ratio)} % ({percent(cell.ratio_low)} .. "
            self.say(f"  {cell.verdict} {cell.label}: {change}{percent(cell.ratio_high)})")
        if next_look is not None:
            self.say(another_look(gate, next_look))

    def end(self) -> None:
        """Nothing is left open."""

    def say(self, text: str) -> None:
        self.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class LiveGateWatcher:
    """A table of the cells that changes in its place, and what is measured now."""

    def __init__(self, console: Console) -> None:
        self.live = Live(Text("starting"), console=console, transient=True, refresh_per_second=4)
        self.live.start()
        self.table: RenderableType = Text("")
        self.began = time.monotonic()

    def launch_begins(self, gate: GateFile, pair: int, side: Side) -> None:
        self.began = time.monotonic()
        rest = f", {duration(gate.pairs[-1].wall_s)} for the pair before" if gate.pairs else ""
        self.show(f"pair {pair}: measuring {side.label}{rest}")

    def pair_ends(self, gate: GateFile, next_look: int) -> None:
        self.table = cells_table(gate)
        self.show(f"{len(gate.pairs)} of {next_look} pairs until it is judged")

    def look_ends(self, gate: GateFile, next_look: int | None) -> None:
        self.table = cells_table(gate)
        self.show(another_look(gate, next_look) if next_look is not None else "decided")

    def end(self) -> None:
        self.live.stop()

    def show(self, text: str) -> None:
        self.live.update(Group(self.table, Text(printable(text))))


def cells_table(gate: GateFile) -> Table:
    table = Table("case", "pairs", "change [%]", "95 % [%]", "verdict")
    for cell in gate.cells[:MOST_ROWS]:
        interval = f"{percent(cell.ratio_low)} .. {percent(cell.ratio_high)}"
        verdict = "..." if cell.verdict == "INCONCLUSIVE" else cell.verdict
        table.add_row(
            Text(printable(cell.label)), str(cell.pairs), percent(cell.ratio), interval, verdict
        )
    return table


def another_look(gate: GateFile, next_look: int) -> str:
    """What knowing more would cost."""
    pairs = next_look - len(gate.pairs)
    mean_s = sum(pair.wall_s for pair in gate.pairs) / len(gate.pairs)
    is_open = sum(cell.verdict == "INCONCLUSIVE" for cell in gate.cells)
    return f"{is_open} cells are open: {pairs} more pairs, about {duration(pairs * mean_s)}"


def make_gate_watcher(console: Console) -> GateWatcher:
    return LiveGateWatcher(console) if console.is_terminal else PlainGateWatcher(console)
