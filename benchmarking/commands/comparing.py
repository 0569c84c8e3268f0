"""Commands that tell whether something became slower: compare."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .showing import read_store
from .sweeping import SweepCommand, config_option, quick_option
from .terminal import EXIT_INVALID, Mistake, out, store_option

if TYPE_CHECKING:
    from results.decision import Rule
    from results.gates import Acceptance, GateFile
    from results.schema import Record

    from ..gate import Gate, GateWatcher, Source

FORMATS = ("table", "json", "md")
PATHS = ("weights", "images", "config")  # settings that may name a file
# Of `sweep`, what is no setting of the sweep itself.
NOT_SETTINGS = ("config", "quick", "store_path", "fresh", "no_prune", "trace", "launcher")
FEWEST_PAIRS = 7  # that are all slower by a chance of 1 : 128
SUMMARY = "GITHUB_STEP_SUMMARY"  # a file that GitHub shows with a job


class Percent(click.ParamType):
    """A share, with its sign, since 3 and 0.03 could both be meant."""

    name = "PERCENT"

    def convert(self, value: Any, parameter: Any, context: Any) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", str(value).strip())
        if found is None or float(found[1]) > 100:
            named = parameter.opts[0] if parameter is not None else "it"
            raise Mistake(f"{named} must be a percentage with its sign, such as 3%, got {value!a}.")
        return float(found[1]) / 100


class Looks(click.ParamType):
    """Numbers of pairs, ascending."""

    name = "PAIRS"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        text = str(value)
        if re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4}){0,9}", text):
            looks = tuple(map(int, text.split(",")))
            if looks[0] >= FEWEST_PAIRS and list(looks) == sorted(set(looks)):
                return looks
        raise Mistake(
            "--pairs must be ascending numbers of at least 7 pairs, since fewer can't tell, such "
            f"as 10,20,30, got {text[:60]!a}."
        )


def rule_options(command: Any) -> Any:
    """When a change counts."""
    for option in reversed(
        (
            click.option(
                "--smallest", type=Percent(), default="3%", show_default=True,
                help="Least change that is reported.",
            ),
            click.option(
                "--margin", type=Percent(), default="1%", show_default=True,
                help="Change that nobody minds: what is tested is a larger one.",
            ),
            click.option(
                "--pairs", type=Looks(), default="10,20,30", show_default=True,
                help="After how many pairs it is looked whether enough is known.",
            ),
            click.option(
                "--order-seed", type=click.IntRange(0, 2**32 - 1), default=0,
                show_default=True, help="Of the order within pairs.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def output_options(command: Any) -> Any:
    """Where a verdict is written, besides the terminal."""
    for form, what in (
        ("junit", "JUnit's XML"), ("json", "JSON"), ("markdown", "Markdown for a pull request"),
    ):  # fmt: skip
        command = click.option(
            f"--{form}",
            f"{form}_path",
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"File for {what}.",
        )(command)
    return command


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
    refuse_unused(click.get_current_context(), more)
    show_comparison(base, head, form, store_path)


def refuse_unused(context: click.Context, names: Iterable[str]) -> None:
    """What stored sweeps are compared without, nobody should believe to matter."""
    typed = click.core.ParameterSource.COMMANDLINE
    for name in names:
        if context.get_parameter_source(name) is typed:
            every = context.command.get_params(context)
            option = next(each.opts[-1] for each in every if each.name == name)
            raise Mistake(f"{option} is for --ab, which measures: add that, or leave it out.")


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
    from results.selftest import read_sees
    from results.store import Store

    from ..gate import Gate, Options, exit_code

    rule = checked_rule(margin, smallest, pairs)
    store = Store(store_path.absolute())
    with ExitStack() as worktrees:
        pythons = (base_python, head_python)
        sources = [
            source(name, python, own_environments, settings, worktrees)
            for name, python in zip((base, head), pythons, strict=True)
        ]
        accepted = accepted_between(sources[0], sources[1], accepted_path)
        options = Options(rule, order_seed, accepted, read_sees(store))
        gate = measured(Gate(sources, options, store, watcher(form), typed()))
    tell(gate, form)
    write_outputs(gate, junit_path, json_path, markdown_path)
    return exit_code(gate)


def typed() -> str:
    return shlex.join(["sam-bench", *sys.argv[1:]])


def checked_rule(margin: float, smallest: float, pairs: tuple[int, ...]) -> Rule:
    from results.decision import Rule

    if margin >= smallest:
        raise Mistake(f"--margin must be below --smallest, got {margin:.2%} and {smallest:.2%}.")
    return Rule(margin=margin, smallest=smallest, looks=pairs)


def watcher(form: str) -> GateWatcher:
    """Beside the table; on the other stream, where that is for a program."""
    from ..gate_progress import make_gate_watcher

    return make_gate_watcher(out(stderr=form != "table"))


def measured(gate: Gate) -> GateFile:
    try:
        return gate.run()
    except KeyboardInterrupt as stop:
        if not gate.gate.pairs:
            raise KeyboardInterrupt("No pair was measured.") from stop
        kept = f"What was measured until then is kept in {gate.folder}"
        raise KeyboardInterrupt(f"{kept}; it was not judged.") from stop


def accepted_between(base: Source, head: Source, path: Path | None) -> list[Acceptance]:
    """What the head accepts and the base does not: a word for one change is none for the next."""
    from results.baselines import ACCEPTED, read_accepted

    named = path or Path("baselines", ACCEPTED)
    if path is not None and (path.is_absolute() or not (head.folder / path).is_file()):
        raise Mistake(
            "--accepted must name a file by its path below this folder, since each side has its "
            f"own, and HEAD must have it, got {str(path)[:200]!a}."
        )
    sides = [read_accepted(each.folder / named) for each in (base, head)]
    if base.folder == head.folder:  # two configurations, which share all their files
        return list(sides[1])
    return [each for each in sides[1] if each not in sides[0]]


def source(
    name: str, python: str | None, is_own: bool, settings: dict[str, Any], worktrees: ExitStack
) -> Source:
    """One side: a sweep file of this installation, or a revision in a worktree."""
    from results.gates import Side

    from ..gate import Source
    from ..revisions import checked_out, install, python_of

    here = Path.cwd()
    if name.endswith(".toml"):
        if settings.get("config") is not None:
            raise Mistake("--config would set what the two sweep files set: leave it out.")
        words = sweep_words(settings | {"config": name})
        return Source(Side(label=name, python=python), words, here, python_of(python))
    words = sweep_words(settings)
    tree = worktrees.enter_context(checked_out(name, here))
    chosen = install(tree.root) if is_own and tree.commit else python_of(python)
    side = Side(label=name, commit=tree.commit, python=chosen if chosen != sys.executable else None)
    return Source(side, words, tree.folder, chosen)


def sweep_words(settings: dict[str, Any]) -> tuple[str, ...]:
    """What a launch is typed with; files are named from the root, since it runs elsewhere."""
    from ..gate import QUICK_SETTINGS, SETTINGS
    from ..settings import read_config

    given = {name: value for name, value in settings.items() if value is not None}
    is_quick = given.pop("quick", False)
    in_file = read_config(Path(given["config"])) if "config" in given else {}
    defaults = QUICK_SETTINGS if is_quick else SETTINGS
    words = ["--quick"] if is_quick else []
    for name, value in (defaults | given).items():
        if name in in_file and name not in given:
            continue
        is_path = name in PATHS and os.path.exists(value)
        text = os.path.abspath(value) if is_path else str(value)
        words += ["--" + name.replace("_", "-"), text]
    check_words(tuple(words))
    return tuple(words)


def check_words(words: tuple[str, ...]) -> None:
    """A mistake in a setting is told at once, not after a launch."""
    from .sweeping import asked_sweep, sweep

    with sweep.make_context("sweep", list(words)) as context:
        given = dict(context.params)
        flags = {name: given[name] for name in given if name not in NOT_SETTINGS}
        asked_sweep(given["config"], given["quick"], flags)


def tell(gate: GateFile, form: str) -> None:
    from ..gate_report import comment, gate_view
    from ..report import print_view

    if form == "json":
        click.echo(gate.model_dump_json(indent=1))
    elif form == "md":
        click.echo(comment(gate), nl=False)
    else:
        print_view(gate_view(gate), out())


def write_outputs(
    gate: GateFile, junit_path: Path | None, json_path: Path | None, markdown_path: Path | None
) -> None:
    """Files that a CI shows; GitHub's summary of the job too, where it has one."""
    from ..gate_report import comment, gate_findings, junit

    if junit_path is not None:
        write(junit_path, junit("sam-bench compare", gate_findings(gate)))
    if json_path is not None:
        write(json_path, gate.model_dump_json(indent=1) + "\n")
    if markdown_path is not None:
        write(markdown_path, comment(gate))
    add_to_summary(comment(gate))


def write(path: Path, text: str) -> None:
    from results.store import StoreError, write_whole

    if not path.name:
        raise Mistake("A file to write must have a name, got an empty one.")
    try:
        write_whole(path, text)
    except StoreError as error:
        raise Mistake(str(error).split(". Name")[0] + ". Name another file.") from error


def add_to_summary(text: str) -> None:
    """Where a job's summary can't be written, the verdict counts all the same."""
    path = os.environ.get(SUMMARY)
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        click.echo(f"note: {SUMMARY} can't be written: {error.strerror}", err=True)


def show_comparison(before: str, after: str, form: str, store_path: Path) -> None:
    """Two sets of records side by side."""
    from ..comparison_views import compared, comparison_view
    from ..report import harmless, markdown, print_view

    sides = [read_side(name, store_path) for name in (before, after)]
    both = compared(*sides) if all(sides) else None
    if both is None or both.matched.empty:
        click.echo(harmless(f"{before} and {after} have no case in common."), err=True)
        sys.exit(EXIT_INVALID)
    view = comparison_view(both)
    if form == "json":
        click.echo(both.json())
    elif form == "md":
        click.echo(markdown(view))
    else:
        print_view(view, out())


def read_side(name: str, store_path: Path) -> list[Record]:
    """Records of a sweep by its id, of a sweep's folder, or of a whole store."""
    if not os.path.isdir(name):  # nor is a name that is too long for one
        try:
            return read_store(store_path, name).records
        except Mistake as mistake:
            told = mistake.message if mistake.message[-1] in ".?" else f"{mistake.message}."
            raise Mistake(f"{told} To measure revisions, add --ab.") from mistake
    path = Path(name)
    if (path / "sweep.json").is_file() or (path / "cases").is_dir():
        own = path.resolve()  # '.' has neither a name nor a parent
        return read_store(own.parent, own.name).records
    return read_store(path, "all").records
