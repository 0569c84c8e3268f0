"""`sam-bench capacity`: for true on a tiny model, and by a device that holds so many images."""

from __future__ import annotations

import re
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner

from benchmarking.choices.precision import PRECISIONS
from benchmarking.cli import main
from benchmarking.machine import environment as environment_file
from benchmarking.sweeping import case_runner
from results.records.measurement import Energy, Memory
from results.records.repair import look_over
from results.records.store import Store

GIB = 2**30
ROW = r"│ {what} *│ *(\S+) │ (.+?) *│"


def shown(card, what):
    """Batch and figure of a row of a card."""
    return re.search(ROW.format(what=re.escape(what)), card).groups()


# For true


@pytest.fixture(scope="module")
def true_search(tmp_path_factory, here, one_thread):
    """A search for true, and the processes that it left."""
    folder = tmp_path_factory.mktemp("capacity")
    before = set(psutil.Process().children(recursive=True))
    line = (
        "capacity -m tiny -s 32 --most 2 --quick --passes latency,memory --device cpu "
        "--input noise --latency-budget-ms 60000"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(environment_file, "probe_environment", lambda: here)
        result = CliRunner().invoke(main, line.split())
    left = set(psutil.Process().children(recursive=True)) - before
    return SimpleNamespace(result=result, runs=folder / "runs", left=left)


def test_a_true_search_shows_the_largest_batch_that_fits(true_search):
    assert true_search.result.exit_code == 0, true_search.result.output
    assert "Capacity: tiny 32px fp32 reference eager noise on " in true_search.result.stdout
    assert shown(true_search.result.stdout, "largest that fits") == (
        "2",
        "nothing larger was tried that did not fit",
    )


def test_a_true_search_shows_the_best_batch_within_its_budget(true_search):
    batch, figure = shown(true_search.result.stdout, "within 60000 ms")

    assert batch in ("1", "2")
    assert figure.endswith(" images/s")


def test_a_true_search_fits_a_memory_line(true_search):
    assert re.search(r"memory, fitted .* GiB \+ \S+ GiB an image", true_search.result.stdout), (
        true_search.result.stdout
    )


def test_no_process_is_left_behind_by_a_true_search(true_search):
    assert true_search.left == set()


def test_the_store_of_a_true_search_holds_its_probes_and_the_full_measurement(true_search):
    store = Store(true_search.runs)
    probes, whole = (store.read(sweep_id).records for sweep_id in store.sweep_ids())

    assert [record.case.batch_size for record in probes] == [1, 2]
    assert [record.case.batch_size for record in whole] == [2]
    assert all(look.is_fine for look in look_over(store))


def test_show_tells_the_capacity_of_a_true_search_again(true_search, invoke):
    result = invoke("show capacity --sweep all", "--store", true_search.runs)

    assert result.exit_code == 0, result.stderr
    for what in ("largest that fits", "best throughput", "enough, within 5 %"):
        assert shown(result.stdout, what) == shown(true_search.result.stdout, what)


# Mistakes


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            "--batch-size 4",
            "capacity finds the batch sizes itself: leave --batch-size out, or set --most.",
        ),
        ("-b 1,2", "capacity finds the batch sizes itself"),
        ("--most 0", "'--most': 0 is not in the range 1<=x<=1000000."),
        ("--most 1000001", "'--most'"),
        ("--most many", "'--most'"),
        ("--latency-budget-ms nan", "--latency-budget-ms must be a number, got nan."),
        ("--latency-budget-ms inf", "--latency-budget-ms must be a number, got inf."),
        ("--latency-budget-ms -inf", "'--latency-budget-ms'"),
        ("--latency-budget-ms -1", "'--latency-budget-ms'"),
        ("--latency-budget-ms 0", "'--latency-budget-ms'"),
        ("--latency-budget-ms soon", "'--latency-budget-ms'"),
        ("--passes kernel", "Unknown pass 'kernel'. Did you mean 'kernels'?"),
        ("--memory-limit-bytes 1000", "--memory-limit-bytes"),
    ],
)
def test_a_mistake_is_refused_in_one_line(invoke, mistake, tmp_path, flags, reason):
    line = mistake(invoke(f"capacity -m tiny -s 32 --quick {flags}"))

    assert reason in line
    assert not (tmp_path / "runs").exists()


def test_batch_sizes_of_a_file_are_replaced(invoke, device, tmp_path):
    (tmp_path / "sweep.toml").write_text('model = "tiny"\nbatch_size = [7]\ndevice = "cpu"')
    fake = device(1)
    result = invoke("capacity --config sweep.toml --quick")

    assert result.exit_code == 0, result.stderr
    assert fake.batch_sizes == [1, 2, 1]


# By a device that holds so many images


@pytest.fixture
def device(monkeypatch, fake_device):
    """Let searches run on a device that holds so many images.

    Args:
        largest: Images.
        instead: What a batch size or a precision gives instead.
        joules: Of five seconds.
    """

    def start(largest, instead=None, joules=None):
        def answer(case, call):
            for key in (case.batch_size, case.precision):
                if key in (instead or {}):
                    return instead[key]
            if case.batch_size > largest:
                return "oom"
            memory = Memory(
                source="made up", weights_bytes=1, rise_bytes=1,
                peak_bytes=4 * GIB + case.batch_size * GIB // 2,
            )  # fmt: skip
            found = fake_device.measurement_of(
                case,
                times_s=lambda index: 0.01 * (case.batch_size + 1),
                dtype=PRECISIONS[case.precision].dtype,
            )
            energy = joules and Energy(joules=joules, window_s=5.0, forwards=100)
            return found.with_passes(memory=memory, energy=energy)

        launcher = fake_device.DeviceLauncher(answer)
        monkeypatch.setattr(case_runner, "LocalCaseRunner", lambda: launcher)
        return launcher

    return start


SEARCH = "capacity -m tiny -s 1024 --device cpu --quick"


def test_a_card_tells_what_fits_and_what_does_not(invoke, device):
    device(5)
    result = invoke(SEARCH)

    assert result.exit_code == 0, result.stderr
    assert shown(result.stdout, "largest that fits") == ("5", "6 did not fit")


def test_a_card_tells_the_memory_line_in_gib(invoke, device):
    device(5)
    line = re.search(r"memory, fitted .* (\S+) GiB \+ (\S+) GiB an image", invoke(SEARCH).stdout)

    assert [float(figure) for figure in line.groups()] == pytest.approx([4, 0.5])


def test_a_card_names_the_memory_limit(invoke, device):
    device(5)
    result = invoke(f"{SEARCH} --memory-limit-bytes {8 * GIB}")

    assert shown(result.stdout, "largest that fits") == ("5", "6 did not fit of 8 GiB")


def test_the_least_energy_an_image_is_told_where_it_was_measured(invoke, device):
    device(4, joules=800.0)

    assert shown(invoke(SEARCH).stdout, "least energy") == (
        "4",
        "2 J an image, whole board",
    )


def test_without_a_measurement_of_energy_nothing_is_said_of_it(invoke, device):
    device(4)

    assert "energy" not in invoke(SEARCH).stdout


@pytest.mark.parametrize(
    ("budget_ms", "batch", "figure"),
    [("35", "2", "66.67 images/s"), ("1000", "4", "80.00 images/s"), ("1", "-", "none is")],
)
def test_a_card_tells_the_best_batch_within_a_budget(invoke, device, budget_ms, batch, figure):
    device(4)
    result = invoke(f"{SEARCH} --latency-budget-ms {budget_ms}")

    assert shown(result.stdout, rf"within {float(budget_ms):.4g} ms") == (batch, figure)


def test_each_combination_of_the_other_axes_has_its_card(invoke, device):
    device(3)
    result = invoke(f"{SEARCH} -p fp32,bf16")

    assert result.exit_code == 0, result.stderr
    assert re.findall(r"Capacity: tiny 1024px (\w+) ", result.stdout) == ["fp32", "bf16"]


def test_where_nothing_fits_a_line_says_so_and_no_card_is_shown(invoke, device):
    device(0)
    result = invoke(SEARCH)

    assert result.stdout.splitlines()[-1].endswith(": not even one image fits.")
    assert "Capacity" not in result.stdout


@pytest.mark.parametrize("status", ["crashed", "timeout", "cuda_error"])
def test_a_probe_that_fails_is_told_and_the_next_case_is_searched(invoke, device, status):
    device(3, instead={"fp32": status})
    result = invoke(f"{SEARCH} -p fp32,bf16")

    assert result.exit_code == 5
    assert result.stderr == (
        f"tiny b1 1024px fp32 reference eager cpu images: the search ended at batch 1: {status}: "
        f"{status}\n{status}: tiny b1 1024px fp32 reference eager cpu images: {status}\n"
    )
    assert "Capacity: tiny 1024px bf16 " in result.stdout


def test_a_full_measurement_that_failed_ends_with_exit_code_5(invoke, device):
    launcher = device(2)
    true = launcher.measure_call
    launcher.measure_call = lambda case, call: (
        "crashed" if "flops" in launcher.passes[-1] else true(case, call)
    )
    result = invoke(SEARCH)

    assert launcher.batch_sizes[-1] == 2
    assert result.exit_code == 5
    assert "crashed" in result.stdout + result.stderr


def test_ctrl_c_ends_with_exit_code_130_and_a_line(invoke, device):
    device(5, instead={4: KeyboardInterrupt()})
    result = invoke(SEARCH)
    statuses = [record.status for record in Store("runs").read().records]

    assert result.exit_code == 130
    assert result.stderr.startswith("Interrupted.")
    assert statuses == ["ok", "ok", "interrupted"]


def test_the_same_command_needs_two_probes_the_second_time(invoke, device):
    device(5)
    invoke(SEARCH)
    launcher = device(5)
    invoke(SEARCH)

    assert launcher.batch_sizes == [5, 6, 5]


def test_show_tells_the_capacity_of_the_whole_search(invoke, device):
    device(5)
    searched = invoke(SEARCH)
    again = invoke("show capacity --sweep all")

    assert again.exit_code == 0, again.stderr
    assert again.stdout.startswith(searched.stdout[searched.stdout.index("Capacity: ") :])


def test_probes_are_told_one_after_another(invoke, device):
    device(2)
    lines = invoke(SEARCH).stdout.splitlines()

    assert lines[0].endswith(": probes, planned one after another.")
    assert [line.split()[0] for line in lines[1:4]] == ["[1/1]", "[2/2]", "[3/3]"]
