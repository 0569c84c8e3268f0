"""What a self-test of the gate found, for a terminal."""

from __future__ import annotations

from results.verdicts.selftest import EFFECTS, SelfTest

from .printing import TextTable, text_headings


def selftest_view(test: SelfTest) -> TextTable:
    """A row a cell: what it can see, and how often what was injected is found."""
    headings = [*text_headings("case"), "can't see less than"]
    if test.injected is not None:
        headings.append(f"{test.injected:.1%} found in")
    view = TextTable("The gate on this machine", headings)
    for label, least in test.sees.items():
        seen = f"{least:.1%}" if least is not None else f"more than {EFFECTS[-1]:.0%}"
        found = [f"{test.found[label]:.0%}"] if test.injected is not None else []
        view.rows.append([label, seen, *found])
    view.caption = f"{test.suites} suites drawn from {test.pairs} pairs, seed {test.seed}"
    view.sentences.append(
        f"False alarms: {test.false_alarms:.1%} of the suites, at a margin of "
        f"{test.rule.margin:.1%}."
    )
    if test.margin is None:
        view.sentences.append("No margin makes false alarms rare here: the machine is too noisy.")
    elif test.margin > test.rule.margin:
        view.sentences.append(
            f"Use --margin {test.margin:.1%} here: then no more than 1 % of the suites raise one."
        )
    return view
