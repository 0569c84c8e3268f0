"""The command line: what it takes, what it says of itself, and what it refuses."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from benchmarking.choices.sweep import Sweep
from benchmarking.cli import main
from benchmarking.measuring.passes.table import passes_help
from benchmarking.options.sweep_options import SweepCommand, asked_sweep
from results.records.case import AXES, TimingPlan

GROUPS = {name: each for name, each in main.commands.items() if isinstance(each, click.Group)}
# By the words that are typed.
TABLE = main.commands | {
    f"{group} {name}": each
    for group, commands in GROUPS.items()
    for name, each in commands.commands.items()
}
COMMANDS = list(TABLE)
# Another process shows their help: tests/dashboards/test_dashboard_command.py looks at it.
HANDED_OVER = ("dashboard", "report")
OWN = [name for name in COMMANDS if name not in HANDED_OVER]
SWEEPING = [name for name, command in main.commands.items() if type(command) is SweepCommand]
HELP = (
    {name: axis.help for name, axis in AXES.items()}
    | {name: field.description for name, field in TimingPlan.model_fields.items()}
    | {"passes": passes_help()}
)


# Help


def loaded_by(*arguments):
    """Packages in a fresh interpreter after the command line ran."""
    code = f"""
import sys
from benchmarking.cli import main
main({list(arguments)}, standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_help_imports_nothing_that_takes_time():
    slow = {"torch", "numpy", "pandas", "pydantic", "PIL", "rich", "scipy", "dash"}

    assert loaded_by("--help") & slow == set()


@pytest.mark.parametrize("name", [*COMMANDS, "choices"])
def test_help_of_a_command_imports_neither_torch_nor_pandas(name):
    # The names of views are those of a table whose rows need pandas.
    pandas = {"pandas"} if name not in ("show", "export") else set()

    assert loaded_by(*name.split(), "--help") & {"torch", "dash", "scipy", *pandas} == set()


def example(name=None):
    """The words of the example at the end of a help text, without sam-bench itself."""
    command = TABLE[name] if name else main
    (line,) = re.findall(r"Example:\n\s+sam-bench (.*)", command.help)
    return line


@pytest.mark.parametrize("name", [None, *OWN])
def test_every_help_ends_in_an_example(invoke, name):
    result = invoke(f"{name or ''} --help")

    assert result.exit_code == 0
    assert f"Example:\n    sam-bench {example(name)}\n" in result.stdout


@pytest.mark.parametrize("name", [None, *OWN])
def test_every_example_can_be_typed(name):
    command, *words = shlex.split(example(name))
    with main.commands[command].make_context(command, words) as context:
        if command in GROUPS:
            assert words[0] in GROUPS[command].commands
        if command in SWEEPING:
            flags = {name: value for name, value in context.params.items() if name in HELP}
            asked, _ = asked_sweep(None, context.params["quick"], flags)

            assert asked != Sweep()

    assert (name or command).split()[0] == command


@pytest.mark.parametrize("name", ["choices", "doctor", "export", "plan", "show", "store repair"])
def test_examples_that_measure_nothing_run(invoke, make_store, make_record, name):
    make_store(make_record(batch_size=1), make_record("oom", batch_size=2))
    result = invoke(example(name))

    assert result.exit_code == 0, result.stderr
    assert result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    command = TABLE[name]
    options = [
        each for each in command.get_params(click.Context(command)) if each.opts[0][0] == "-"
    ]

    assert [
        each.name for each in options if not each.help and each.name not in ("by", "form")
    ] == []


# A field is a flag


@pytest.mark.parametrize("command", SWEEPING)
@pytest.mark.parametrize("name", HELP)
def test_a_field_is_a_flag_with_its_help_and_default(invoke, command, name):
    text = " ".join(invoke(f"{command} --help").stdout.split())

    assert f"--{name.replace('_', '-')} VALUE" in text
    assert HELP[name] in text


# Flags that are no field of a sweep or a plan.
OF_ALL = {"--encoder", "--config", "--quick", "--store", "--help"}
RULE = ("--smallest", "--margin", "--pairs", "--order-seed")
WRITTEN = ("--junit", "--json", "--markdown")
WHERE = {
    "--fleet", "--parallel", "--shard", "--ray-address", "--slurm-partition", "--slurm-gres",
    "--slurm-constraint", "--slurm-jobs", "--slurm-minutes", "--slurm-cpus", "--slurm-memory-gb",
}  # fmt: skip
OF_ONE = {
    "sweep": {"--fresh", "--take-over", "--no-prune", "--trace", *WHERE},
    "plan": WHERE,
    "capacity": {"--most", "--latency-budget-ms"},
    "compare": {
        "--ab", "--format", *RULE, *WRITTEN, "--base-python", "--head-python",
        "--own-environments", "--accepted",
    },
    "selftest": {"--inject", "--measure-pairs", *RULE},
}  # fmt: skip


@pytest.mark.parametrize("command", SWEEPING)
def test_what_is_no_field_is_no_setting(command):
    command = main.commands[command]
    options = command.get_params(click.Context(command))
    flags = {each.opts[-1] for each in options if each.opts[-1].startswith("-")}
    fields = {f"--{name.replace('_', '-')}" for name in HELP}

    assert flags == fields | OF_ALL | OF_ONE[command.name]


def test_check_takes_the_axes_and_no_setting_of_timing():
    options = main.commands["check"].get_params(click.Context(main.commands["check"]))
    flags = {each.opts[-1] for each in options}
    own = {"--baselines", "--update-expected", "--baseline", "--smallest", *WRITTEN}
    axes = {f"--{name.replace('_', '-')}" for name in Sweep.model_fields}

    assert flags == axes | own | OF_ALL - {"--quick"}


def test_the_commands_that_measure_take_the_same_settings():
    assert list(OF_ONE) == SWEEPING


# Mistakes

MISTAKES = {
    "zero": ("sweep -b 0", "--batch-size must be between 1 and 1000000, got 0."),
    "negative": ("sweep -b -1", "--batch-size must be whole numbers .*, got '-1'."),
    "negative device": ("sweep --device cuda:-1", "--device must be .*, got 'cuda:-1'."),
    "missing device": ("sweep --device cuda:99", "There is no device cuda:99"),
    "model": ("sweep -m vit_x", "Unknown model 'vit_x'. Did you mean 'vit_b'?"),
    "NaN": ("sweep --max-timed-s nan", "--max-timed-s must be a number, got 'nan'."),
    "escape": ("sweep -m '\x1b[31m'", r"--model must be words, got '\\x1b\[31m'."),
    "nothing can run": ("sweep -p tf32 --device cpu", "Nothing of this sweep can run: tf32 needs"),
    "too many": ("plan --seed 65536", "--seed: must be less than 65536, got 65536."),
    "3 million cases": (
        f"sweep -b {','.join(map(str, range(1, 1001)))} -m tiny,vit_b,vit_l "
        f"-s {','.join(map(str, range(16, 16_001, 16)))}",
        "at most 20000 cases, and these axes make 3000000",
    ),
    "launcher": ("sweep -m tiny --fleet locale", "Unknown fleet 'locale'. .*'local'"),
    "weights": ("sweep --weights gone.pth", "There are no weights at 'gone.pth'. Fetch them with"),
    "weights too long": (f"sweep --weights {'n' * 5000}", "File name too long"),
    "prompts": ("sweep --prompts masks", "--prompts must be points or boxes, got 'masks'."),
    "no prompts": ("plan --prompts-per-image 0", "--prompts-per-image: must be greater than"),
    "no points": ("plan --points-per-side 0", "--points-per-side: must be greater than"),
    "pass": ("sweep --passes mask-generator", "Unknown pass .* Did you mean 'mask_generator'?"),
    "onnxruntime in bf16": (
        "sweep -p bf16 --execution onnxruntime --device cpu",
        "Nothing of this sweep can run: onnxruntime is run in fp32 on a CPU alone",
    ),
    "no images": ("sweep --images gone", "'gone' can't be read: No such file or directory."),
    "no annotations": ("sweep --input sa1b", "--input sa1b needs --images: a folder of images"),
    "folder without images": ("sweep --images .", "'.' has no image: put files in it that end in"),
    "images that nothing reads": ("sweep --images . --input noise", "--input asks for none"),
    "no config": ("sweep --config gone.toml", "--config must name a TOML file"),
    "config is a folder": ("plan --config .", "--config must name a TOML file"),
    "config too long": (f"sweep --config {'n' * 5000}", "can't be read: File name too long"),
    "no store": ("show", "'runs' has no records: measure some with: sam-bench quickstart"),
    "no store to verify": ("store verify", "'runs' has no records: measure some with:"),
    "no store to repair": ("store repair --store gone", "'gone' has no records"),
    "no store to recommend from": ("recommend", "'runs' has no records: measure some with:"),
    "word of the store": ("store mend", "No such command 'mend'."),
    "no store to export": ("export csv --store gone", "'gone' has no records"),
    "view": ("show layer", "'layer' is not one of 'cases', 'components', 'modules', .*'limits'"),
    "form": ("export xml", "Invalid value"),
    "unknown download": ("download vit_x", "No official checkpoint of 'vit_x'. .*'vit_b'"),
    "download without a file": ("download tiny", "No official checkpoint of 'tiny'."),
    "command": ("swep", "No such command 'swep'."),
    "option": ("sweep --batchsize 1", "No such option.*--batch-size"),
    "value": ("sweep --batch-size", "requires an argument"),
    "argument": ("download", "Missing argument 'MODEL'."),
}  # fmt: skip


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(invoke, launcher, words, line, mistake):
    assert re.search(line, mistake(invoke(words)))
    assert launcher.measured == []


def test_a_mistake_of_a_true_process_is_one_line_and_exit_code_2(tmp_path, mistake, run_process):
    assert mistake(run_process("sweep", "-b", "0", cwd=tmp_path)).endswith("got 0.")


def test_an_echo_of_the_command_line_is_harmless_and_short(invoke, mistake):
    line = mistake(invoke("sweep --config", "\x1b[31m\n" + "n" * 100_000))

    assert line.isprintable()
    assert len(line) < 1100


def test_an_unknown_sweep_is_refused_with_those_that_are_there(
    invoke, make_store, make_record, mistake
):
    store = make_store(make_record())

    assert f"Known: {store.sweep_ids()[0]}." in mistake(invoke("show --sweep zzz"))


WITH_A_STORE = [
    "show", "export csv", "plan -m tiny", "sweep -m tiny", "recommend", "store verify",
    "store repair",
]  # fmt: skip


@pytest.mark.parametrize("words", WITH_A_STORE)
@pytest.mark.parametrize("kind", ["file", "pipe", "link to itself", "root", "long name"])
def test_a_store_that_can_be_none_is_refused(invoke, launcher, tmp_path, words, kind, mistake):
    path = tmp_path / "runs"
    if kind == "file":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    names = {"root": "/", "long name": "n" * 300}
    result = invoke(words, "--store", names.get(kind, path))

    assert re.search("must be a folder", mistake(result))
    assert launcher.measured == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_is_read_only_is_refused(invoke, launcher, tmp_path, mistake):
    (tmp_path / "runs").mkdir(mode=0o500)

    assert "can't be written: Permission denied" in mistake(invoke("sweep -m tiny"))


def test_a_store_below_a_file_is_refused(invoke, launcher, tmp_path, mistake):
    (tmp_path / "file").touch()

    assert "must be a folder" in mistake(invoke("sweep -m tiny --store file/runs"))
