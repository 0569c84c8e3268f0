"""Where cases run, from the command line: kinds of GPU, shards, fleets, and stores put together."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarking.fleet import fleets, local
from benchmarking.fleet.jobs import Slot
from benchmarking.machine import environment as environment_file
from benchmarking.options.fleet_options import FLEET_FLAGS
from benchmarking.options.gate_sides import sweep_words
from results.records.environment import Gpu
from results.records.store import Store

SWEEP = "sweep -m tiny,vit_b -b 1,2,4 --input noise"
# As many families as there may be shards.
WIDE = "sweep -m tiny,vit_b -p fp32,bf16 -b 1,2,4 --input noise --device cpu"


@pytest.fixture
def make_machine(invoke, here, monkeypatch, nvml):
    """Let the command find GPUs of these names, and no others."""

    def make(*names):
        gpus = tuple(
            Gpu(
                index=index, name=name, uuid=f"GPU-{index}", memory_bytes=2**36,
                compute_capability="9.0",
            )
            for index, name in enumerate(names)
        )  # fmt: skip
        machine = here.model_copy(update={"gpus": gpus})
        monkeypatch.setattr(environment_file, "probe_environment", lambda: machine)
        return machine

    return make


@pytest.fixture(autouse=True)
def no_gpu(make_machine):
    """Whatever the machine has that runs the tests."""
    return make_machine()


@pytest.fixture
def gpu_launchers(monkeypatch, scripted_launcher, make_record):
    """Let GPUs be measured on by scripted launchers; those that were made, with their GPU's name.

    A test may change `script` of what is to come.
    """
    made = []

    def make(gpu):
        launcher = scripted_launcher(measurement=make_record().measurement)
        launcher.gpu = gpu
        made.append(launcher)
        return launcher

    monkeypatch.setattr(local, "LocalCaseRunner", make)
    return made


def records_of(name="runs"):
    return Store(Path(name)).read().records


# Mistakes

MISTAKES = {
    "unknown kind": (
        "sweep -m tiny --gpu L5",
        "--gpu: unknown kind 'L5'; on this machine there is: 1 x cpu. Did you mean 'L4'?",
    ),
    "kind that is not here": (
        "sweep -m tiny --gpu h200",
        "--gpu H200: there is none on this machine, which has: 1 x cpu. Leave it out, or start",
    ),
    "one of two kinds": ("sweep -m tiny --gpu cpu,L4", "--gpu L4: there is none on this machine"),
    "any without a GPU": (
        "sweep -m tiny --gpu any",
        "There is no GPU on this machine, which has: 1 x cpu. See --gpu.",
    ),
    "all GPUs without a GPU": (
        "sweep -m tiny --parallel gpus", "There is no GPU on this machine, which has: 1 x cpu."
    ),
    "kind and device": (
        "sweep -m tiny --gpu L4 --device cuda:0",
        "--gpu names the kinds of GPU and --device .* got --gpu L4 and --device cuda:0: give one.",
    ),
    "kind cpu and device cpu": ("plan -m tiny --gpu cpu --device cpu", "cpu: give one."),
    "no kind": ("sweep -m tiny --gpu ''", "--gpu has an empty value: ''."),
    "escape": ("sweep -m tiny --gpu 'L4\x1b'", r"--gpu must be words, got 'L4\\x1b'."),
    "full-width": ("sweep -m tiny --gpu \uff2c4", r"--gpu must be kinds .* got '\\uff2c4'."),
    "path": ("plan -m tiny --gpu ../L4", "--gpu must be kinds of GPU such as .* got '../L4'."),
    "long": (f"sweep --gpu {'L' * 5000}", "--gpu must be kinds of GPU such as .* got 'L{56}"),
    "shard beyond the last": ("sweep -m tiny --shard 9/8", "--shard must be .* got '9/8'."),
    "shard of whatever is there": ("sweep -m tiny --shard 1/2", "name the devices with --gpu or"),
    "a device of a fleet": ("sweep --fleet ray --device cpu", "not --device"),
    "another launcher's option": ("sweep --ray-address h:1 --gpu cpu", "is for --fleet ray"),
    "Slurm's memory, elsewhere": (
        "sweep --fleet ray --slurm-memory-gb 64", "--slurm-memory-gb is for --fleet slurm, "
    ),
    "Slurm's gres, here": ("sweep --slurm-gres gpu:1", "--slurm-gres is for --fleet slurm, got"),
    "a device beside --parallel": (
        "sweep --parallel gpus --device cpu", "--parallel gpus gives each GPU .*, not --device."
    ),
    "launcher beside a device": ("sweep --fleet slum --device cpu", "Unknown fleet 'slum'."),
    "Ray's client": (
        "sweep -m tiny --fleet ray --ray-address ray://head:10001",
        "A Ray cluster must be named by its head's HOST:PORT, .* got 'ray://head:10001'",
    ),
    "port too large": (
        f"sweep -m tiny --fleet ray --ray-address 127.0.0.1:{'9' * 30}",
        "There is no Ray cluster at 127.0.0.1:9{30} ",
    ),
    "gres of an attribute": (
        "sweep -m tiny --fleet slurm --slurm-gres {kind.x} --gpu L4",
        "--slurm-gres must be text with",
    ),
    "gres that is no text": (
        "sweep --fleet slurm --slurm-gres gpu:{typ} --gpu L4", "--slurm-gres must be text with",
    ),
    "shard zero": ("plan -m tiny --shard 0/8", "--shard must be .* got '0/8'."),
    "words": ("sweep -m tiny --shard a/b", "--shard must be .* such as 2/8, got 'a/b'."),
    "launcher": ("sweep -m tiny --fleet slum", "Unknown fleet 'slum'. Did you mean 'slurm'"),
    "launcher of a plan": ("plan -m tiny --fleet locale", "Unknown fleet 'locale'."),
    "no Slurm": ("sweep -m tiny --fleet slurm", "There is no Slurm here|needs submitit"),
    "no Slurm to plan for": ("plan -m tiny --fleet slurm", "is no Slurm here|needs submitit"),
    "so many at once": ("sweep -m tiny --parallel 2", "'2' is not one of 'gpus', '1'."),
    "no Slurm jobs": ("sweep -m tiny --slurm-jobs 0", "0 is not in the range 1<=x<=10000."),
    "no minutes": ("sweep -m tiny --slurm-minutes 0", "0 is not in the range"),
    "kind to search": ("capacity -m tiny --gpu L4", "capacity probes the GPUs of this machine"),
    "store of no service": (
        "sweep -m tiny --store foo://x",
        "A store must be a folder or an address such as s3://bucket/runs, got 'foo://x'",
    ),
    "show of no service": ("show --store foo://x", "A store must be a folder or an address"),
    "merge of what is not there": (
        "merge gone -o runs", "A store to merge must hold records, and 'gone' holds none."
    ),
    "merge of no service": ("merge foo://x -o runs", "A store must be a folder or an address"),
    "merge into no service": ("merge runs -o foo://x", "A store must be a folder or an address"),
    "merge into the root": ("merge runs -o /", "--store must be a folder of its own"),
    "merge of nothing": ("merge -o runs", "Missing argument 'STORE...'."),
    "merge into nothing": ("merge runs", "Missing option '-o' / '--output'."),
}  # fmt: skip


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    invoke, launcher, gpu_launchers, words, line, mistake, monkeypatch
):
    monkeypatch.setenv("PATH", "")  # where Slurm may be
    assert re.search(line, mistake(invoke(words)))
    assert launcher.measured == gpu_launchers == []
    assert not Path("runs").exists()


def test_a_kind_in_a_sweep_file_is_refused_as_a_flag_is(invoke, tmp_path, mistake):
    (tmp_path / "sweep.toml").write_text('model = "tiny"\ngpu = ["L5"]')

    assert "unknown kind 'L5'" in mistake(invoke("sweep --config sweep.toml"))


def test_another_kind_than_that_of_this_machine_is_refused_with_what_it_has(
    invoke, make_machine, mistake
):
    make_machine("NVIDIA L4", "NVIDIA L4")
    line = mistake(invoke("sweep -m tiny --gpu L40S"))

    assert "there is none on this machine, which has: 2 x NVIDIA L4, 1 x cpu." in line


def test_a_store_is_not_merged_into_itself(invoke, launcher, mistake):
    invoke(SWEEP)
    line = mistake(invoke("merge runs -o ./runs"))

    assert "must be none of the stores to merge" in line
    assert line.endswith("name a new one with -o.")


# Kinds


@pytest.mark.parametrize("kind", ["cpu", "CPU"])
def test_a_sweep_runs_on_a_cpu_that_was_named_as_a_kind(invoke, launcher, kind):
    result = invoke(f"sweep -m tiny -b 1,2 --input noise --gpu {kind}")

    assert result.exit_code == 0, result.stderr
    assert {(case.device, case.gpu) for case in launcher.measured} == {("cpu", None)}


@pytest.mark.parametrize("gpu", ["any", "l4", "L4,H200", "NVIDIA L4,h200,cpu"])
def test_a_sweep_runs_on_the_kinds_that_were_named(invoke, make_machine, gpu_launchers, gpu):
    make_machine("NVIDIA L4", "NVIDIA H200")
    result = invoke(f"{SWEEP} --gpu '{gpu}'")
    kinds = len(gpu.split(","))

    assert result.exit_code == 0, result.stderr
    assert f"{6 * kinds} cases planned: {6 * kinds} ok\n" in result.stdout
    assert len(records_of()) == 6 * kinds
    assert all(
        record.case.gpu in (None, "any") or record.gpu.name == f"NVIDIA {record.case.gpu}"
        for record in records_of()
    )


@pytest.mark.parametrize("flags", ["--gpu any", "--parallel gpus"])
def test_all_gpus_are_used(invoke, make_machine, gpu_launchers, flags):
    make_machine("NVIDIA L4", "NVIDIA H200")
    invoke(f"{SWEEP} {flags}")

    assert {launcher.gpu for launcher in gpu_launchers} == {"GPU-0", "GPU-1"}
    assert {record.case.gpu for record in records_of()} == {"any"}


def test_one_at_a_time_uses_the_gpus_one_after_another(invoke, make_machine, gpu_launchers):
    make_machine("NVIDIA L4", "NVIDIA L4")
    result = invoke(f"{SWEEP} --gpu L4 --parallel 1")

    assert result.exit_code == 0, result.stderr
    assert {launcher.gpu for launcher in gpu_launchers} == {"GPU-0"}


@pytest.mark.parametrize("flags", ["", "--parallel 1"])
def test_a_sweep_that_names_no_kind_runs_on_the_first_gpu(
    invoke, make_machine, launcher, gpu_launchers, flags
):
    make_machine("NVIDIA L4", "NVIDIA L4")
    invoke(f"{SWEEP} {flags}")

    assert {(case.device, case.gpu) for case in launcher.measured} == {("cuda:0", None)}
    assert gpu_launchers == []


def test_a_sweep_over_gpus_goes_on_where_it_was(invoke, make_machine, gpu_launchers):
    make_machine("NVIDIA L4")
    invoke(f"{SWEEP} --gpu L4")
    (path, *_) = sorted(Path("runs").glob("*/cases/*"))
    path.unlink()
    result = invoke(f"{SWEEP} --gpu L4")

    assert "goes on: 5 of 6 cases are done" in result.stdout
    assert len(gpu_launchers[-1].measured) == 1


def test_a_failed_case_on_a_gpu_ends_with_exit_code_5(
    invoke, make_machine, gpu_launchers, monkeypatch, scripted_launcher
):
    make_machine("NVIDIA L4")
    monkeypatch.setattr(local, "LocalCaseRunner", lambda gpu: scripted_launcher({2: "crashed"}))
    result = invoke("sweep -m tiny -b 1,2 --input noise --gpu any")

    assert result.exit_code == 5
    assert "\ncrashed: tiny b2 1024px fp32 reference eager any GPU noise" in result.stdout


# The plan


def rows(result):
    """What a plan's table says, by columns, in a row a case."""
    lines = [re.split("[│┃]", line)[1:-1] for line in result.stdout.splitlines()]
    headings, *found = [[cell.strip() for cell in line] for line in lines if line]
    return [dict(zip(headings, line, strict=True)) for line in found]


def test_a_plan_shows_where_each_case_can_run(invoke, make_machine):
    make_machine("NVIDIA L4", "NVIDIA L4", "NVIDIA H200")
    result = invoke("plan -m tiny -b 1 --gpu L4,any,H100,cpu")
    found = {row["gpu"]: (row["where"], row["status"]) for row in rows(result)}

    assert result.exit_code == 0, result.stderr
    assert found == {
        "L4": ("2 x NVIDIA L4", "planned"),
        "any": ("2 x NVIDIA L4, 1 x NVIDIA H200", "planned"),
        "H100": ("none", "no such GPU"),
        "-": ("1 x cpu", "planned"),
    }
    assert result.stdout.splitlines()[-1].startswith("3 cases to measure, about ")


def test_a_plan_for_a_fleet_counts_no_case_on_a_cpu_that_the_fleet_lacks(invoke, monkeypatch):
    rack = SimpleNamespace(
        where="in the rack", lanes=lambda: 1, slots=lambda: [Slot("L4", "node-0")]
    )
    monkeypatch.setitem(fleets.FLEETS, "ray", lambda sought: rack)
    result = invoke("plan -m tiny -b 1 --gpu L4,cpu --fleet ray")
    found = {row["device"]: (row["where"], row["status"]) for row in rows(result)}

    assert found == {"cuda:0": ("1 x L4", "planned"), "cpu": ("none", "no CPU to measure on")}
    assert result.stdout.splitlines()[-1].startswith("1 cases to measure, about ")
    assert result.stderr.startswith("note: There is no CPU to measure on in the rack, ")


def test_a_plan_without_a_fleet_shows_the_device(invoke, make_machine):
    make_machine("NVIDIA L4")

    assert [row["where"] for row in rows(invoke("plan -m tiny -b 1"))] == ["1 x NVIDIA L4"]


def minutes(result):
    """Of a plan: of at least 100 seconds, and less than 100 minutes."""
    return int(re.search("about ([0-9]+) min", result.stdout)[1])


def test_more_gpus_take_less_time(invoke, make_machine):
    words = "plan -m vit_b,vit_l,vit_h -b 1..32 --gpu L4"
    make_machine("NVIDIA L4")
    one = minutes(invoke(words))
    make_machine(*["NVIDIA L4"] * 3)

    assert minutes(invoke(words)) < one


def test_one_at_a_time_takes_as_long_as_one_gpu(invoke, make_machine):
    words = "plan -m vit_b,vit_l,vit_h -b 1..32 --gpu L4"
    make_machine("NVIDIA L4")
    one = minutes(invoke(words))
    make_machine(*["NVIDIA L4"] * 3)

    assert minutes(invoke(f"{words} --parallel 1")) == one


# Shards


def test_shards_of_two_stores_make_up_the_sweep_once_merged(invoke, launcher):
    for number in (1, 2):
        result = invoke(f"{WIDE} --shard {number}/2 --store part-{number}")

        assert result.exit_code == 0, result.stderr
    merged = invoke("merge part-1 part-2 -o all")
    invoke(f"{WIDE} --store whole")
    found = [record.case for record in records_of("all")]

    assert merged.exit_code == 0, merged.stderr
    assert len(found) == len(set(found)) == 12
    assert set(found) == {record.case for record in records_of("whole")}
    assert all(records_of(f"part-{number}") for number in (1, 2))


def test_what_was_merged_is_fine(invoke, launcher):
    for number in (1, 2):
        invoke(f"{WIDE} --shard {number}/2 --store part-{number}")
    merged = invoke("merge part-1 part-2 -o all")

    assert invoke("store verify --store all").exit_code == 0
    assert "which now holds 2 sweeps. See: sam-bench store verify --store all" in merged.stdout


def test_merging_again_copies_nothing(invoke, launcher):
    invoke(f"{WIDE} --store part")
    first, second = (invoke("merge part -o all") for _ in range(2))

    assert first.stdout.startswith("14 files copied, 0 there already")  # a plan, an end, 12 cases
    assert second.stdout.startswith("0 files copied, 14 there already")


def test_a_case_that_two_stores_tell_differently_ends_with_exit_code_4(invoke, launcher):
    invoke(f"{WIDE} --store part")
    Store("copy").path.mkdir()
    invoke("merge part -o copy")
    (path, *_) = sorted(Path("copy").glob("*/cases/*"))
    path.write_text(path.read_text().replace('"wall_s":0.5', '"wall_s":0.75'))
    result = invoke("merge part copy -o all")

    assert result.exit_code == 4
    assert result.stdout.endswith("See: sam-bench store verify --store all\n")
    (line,) = result.stderr.splitlines()
    assert "tells it differently; the first is kept, the other is in 'all/conflicts'" in line


def test_a_shard_goes_on_where_it_was(invoke, launcher):
    first, second = (invoke(f"{WIDE} --shard 2/2") for _ in range(2))

    assert first.exit_code == second.exit_code == 0
    assert "are measured (--fresh measures again)" in second.stdout


def test_a_plan_shows_the_cases_of_a_shard(invoke):
    words = WIDE.replace("sweep", "plan")
    parts = [rows(invoke(f"{words} --shard {number}/3")) for number in (1, 2, 3)]
    whole = rows(invoke(words))

    assert sum(map(len, parts)) == len(whole)
    assert all(row in whole for part in parts for row in part)


def test_an_empty_shard_says_so_and_is_no_failure(invoke, launcher):
    result = invoke("sweep -m tiny -b 1,2 --input noise --device cpu --shard 3/3")

    assert result.exit_code == 0
    assert result.stdout == ("Shard 3/3 of this sweep has no cases: there are fewer than shards.\n")
    assert launcher.measured == []
    assert not Path("runs").exists()


# Help


@pytest.mark.parametrize("command", ["sweep", "plan"])
@pytest.mark.parametrize("name", FLEET_FLAGS)
def test_help_tells_where_cases_can_run(invoke, command, name):
    assert f"--{name.replace('_', '-')} " in invoke(f"{command} --help").stdout


def test_help_says_which_gpus_can_be_named(invoke):
    text = " ".join(invoke("sweep --help").stdout.split())

    assert (
        "--gpu VALUES GPU models such as L4,L40S,H200, or any, or cpu. Each case runs on a GPU of "
        "this model, on any machine of the fleet." in text
    )


# Gates


@pytest.fixture
def words(tmp_path):
    """What a launch of these settings is typed with; those of a file among them."""

    def look(in_file=None, **settings):
        if in_file is not None:
            path = tmp_path / "side.toml"
            path.write_text(in_file)
            settings["config"] = str(path)
        return sweep_words(settings)

    return look


@pytest.mark.parametrize(
    "settings",
    [{"gpu": "L4"}, {"gpu": "any", "quick": True}, {"in_file": 'model = "tiny"\ngpu = ["L4"]'}],
    ids=["setting", "quick", "sweep file"],
)
def test_the_cases_of_a_gate_run_one_at_a_time_where_a_kind_is_named(words, settings):
    assert words(**settings)[-2:] == ("--parallel", "1")


@pytest.mark.parametrize(
    "settings", [{}, {"device": "cpu"}, {"gpu": None}, {"in_file": 'model = "tiny"'}]
)
def test_a_gate_that_names_no_kind_is_typed_as_before(words, settings):
    assert "--parallel" not in words(**settings)


def test_an_unknown_word_for_a_kind_ends_a_gate_at_once(words, refusal):
    assert refusal(lambda: words(gpu="L4;")).startswith("--gpu must be kinds of GPU")
