"""Two sides beside each other: compare."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from results.records.errors import UserError, printable

from ..options.gate_options import add_to_summary, checked_rule, output_options, rule_options, write
from ..options.gate_sides import measured, source, watcher
from ..options.records import read_store
from ..options.sweep_options import SweepCommand, config_option, quick_option
from ..options.terminal import EXIT_INVALID, out, store_option, typed

if TYPE_CHECKING:
    from results.records.schema import Record
    from results.verdicts.gates import Acceptance, GateFile

    from ..gate.gate import SideSource

FORMATS = ("table", "json", "md")


@click.command(cls=SweepCommand)
@click.argument("base")
@click.argument("head")
@click.option("--ab", "is_gate", is_flag=True, help="Measure both now, in turn, and judge.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@rule_options
@output_options
@click.option("--base-python", help="Python that measures BASE.  [default: this one]")
@click.option("--head-python", help="Python that measures HEAD.  [default: this one]")
@click.option(
    "--own-environments", is_flag=True, help="Install each revision into an environment of its own."
)
@click.option(
    "--accepted",
    "accepted_path",
    type=click.Path(path_type=Path),
    help="File of what may be slower: see sam-bench baseline accept.",
)
@config_option
@quick_option
@store_option
def compare(base: str, head: str, is_gate: bool, form: str, store_path: Path, **more: Any) -> None:
    """Compare what two sweeps measured; or, with --ab, two revisions or two sweep files, measured
    now in turn, and judged.

    Without --ab, BASE and HEAD are sweeps' ids, or folders of records. One launch a side proves
    nothing: what is told is what was measured.

    With --ab they are git revisions, each measured from a worktree of its own ('.' is the files as
    they are), or two sweep files (*.toml). Processes of both sides take turns; after 10, 20 and 30
    pairs each cell is judged. Only this mode can tell a change of 5 % from noise. The settings
    below say what is measured.

    \b
    Exit codes: 0 fine, 1 regressed, 3 can't tell, 4 not comparable, 5 a case fails on HEAD.

    \b
    Example:
      sam-bench compare --ab main . -m vit_b -b 1,8
    """  # fmt: skip
    if is_gate:
        sys.exit(run_gate(base, head, form, store_path, **more))
    context = click.get_current_context()
    for name in more:  # what stored sweeps are compared without, nobody should believe to matter
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            every = context.command.get_params(context)
            option = next(each.opts[-1] for each in every if each.name == name)
            raise UserError(f"{option} is for --ab, which measures: add that, or leave it out.")
    show_comparison(base, head, form, store_path)


def run_gate(
    base: str,
    head: str,
    form: str,
    store_path: Path,
    *,
    smallest: float,
    margin: float,
    pairs: tuple[int, ...],
    order_seed: int,
    junit_path: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
    base_python: str | None,
    head_python: str | None,
    own_environments: bool,
    accepted_path: Path | None,
    **settings: Any,
) -> int:
    """Measure, judge, tell; the exit code."""
    from results.records.store import Store
    from results.verdicts.selftest import read_sees

    from ..gate.gate import Gate, GateOptions, exit_code

    rule = checked_rule(margin, smallest, pairs)
    store = Store(store_path.absolute())
    with ExitStack() as worktrees:
        pythons = (base_python, head_python)
        sources = [
            source(name, python, own_environments, settings, worktrees)
            for name, python in zip((base, head), pythons, strict=True)
        ]
        accepted = accepted_between(sources[0], sources[1], accepted_path)
        options = GateOptions(rule, order_seed, accepted, read_sees(store))
        gate = measured(Gate(sources, options, store, watcher(form), typed()))
    tell(gate, form, junit_path, json_path, markdown_path)
    return exit_code(gate)


def accepted_between(base: SideSource, head: SideSource, path: Path | None) -> list[Acceptance]:
    """What the head accepts and the base does not: a word for one change is none for the next."""
    from results.verdicts.baselines import ACCEPTED, read_accepted

    named = path or Path("baselines", ACCEPTED)
    if path is not None and (path.is_absolute() or not (head.folder / path).is_file()):
        raise UserError(
            "--accepted must name a file by its path below this folder, since each side has its "
            f"own, and HEAD must have it, got {str(path)[:200]!a}."
        )
    sides = [read_accepted(each.folder / named) for each in (base, head)]
    if base.folder == head.folder:  # two configurations, which share all their files
        return list(sides[1])
    return [each for each in sides[1] if each not in sides[0]]


def tell(
    gate: GateFile,
    form: str,
    junit_path: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """On the terminal, and in files that a CI shows; GitHub's summary of the job too."""
    from ..views.gate_report import comment, gate_findings, gate_view, junit
    from ..views.printing import print_table

    if form == "json":
        click.echo(gate.model_dump_json(indent=1))
    elif form == "md":
        click.echo(comment(gate), nl=False)
    else:
        print_table(gate_view(gate), out())
    if junit_path is not None:
        write(junit_path, junit("sam-bench compare", gate_findings(gate)))
    if json_path is not None:
        write(json_path, gate.model_dump_json(indent=1) + "\n")
    if markdown_path is not None:
        write(markdown_path, comment(gate))
    add_to_summary(comment(gate))


def show_comparison(before: str, after: str, form: str, store_path: Path) -> None:
    """Two sets of records side by side."""
    from ..views.comparison_views import compared, comparison_view
    from ..views.printing import markdown, print_table

    sides = [read_side(name, store_path) for name in (before, after)]
    both = compared(*sides) if all(sides) else None
    if both is None or both.matched.empty:
        click.echo(printable(f"{before} and {after} have no case in common."), err=True)
        sys.exit(EXIT_INVALID)
    view = comparison_view(both)
    if form == "json":
        click.echo(both.json())
    elif form == "md":
        click.echo(markdown(view))
    else:
        print_table(view, out())


def read_side(name: str, store_path: Path) -> list[Record]:
    """Records of a sweep by its id, of a sweep's folder, or of a whole store."""
    if not os.path.isdir(name):  # nor is a name that is too long for one
        try:
            return read_store(store_path, name).records
        except UserError as error:
            told = str(error) if str(error)[-1] in ".?" else f"{error}."
            raise UserError(f"{told} To measure revisions, add --ab.") from error
    path = Path(name)
    if (path / "sweep.json").is_file() or (path / "cases").is_dir():
        own = path.resolve()  # '.' has neither a name nor a parent
        return read_store(own.parent, own.name).records
    return read_store(path, "all").records
