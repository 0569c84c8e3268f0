"""Sweeps from the command line: by a scripted launcher, and a few for true."""

from __future__ import annotations

import re

import pytest

from benchmarking.choices.sweep import QUICK
from benchmarking.errors import SweepError
from benchmarking.machine import environment
from results.records.schema import FAILED, STATUSES
from results.records.store import Store

HASTY = (
    "--warmup-s 0 --warmup-forwards 1 --warmup-cap-s 0.5 --min-timed-s 0 --max-timed-s 0.5 "
    "--min-forwards 6 --max-forwards 8 --module-forwards 3"
)


# By a scripted launcher


def test_a_sweep_shows_its_tables_and_where_the_records_lie(invoke, launcher):
    result = invoke("sweep -m tiny -b 1,2 --input noise")
    (sweep_id,) = Store("runs").sweep_ids()

    assert result.exit_code == 0, result.stderr
    assert launcher.batch_sizes == [1, 2]
    assert "2 cases planned: 2 ok\n" in result.stdout
    assert f"Records: runs/{sweep_id}\n" in result.stdout
    for title in ("median time of a forward", "From files to the masks", "Time by module"):
        assert title in result.stdout


@pytest.mark.parametrize("status", [name for name in STATUSES if name not in ("ok", "not_run")])
def test_a_sweep_with_a_failed_case_ends_with_exit_code_5(invoke, launcher, status):
    launcher.script = {2: status}
    result = invoke("sweep -m tiny -b 1,2,4 --no-prune")

    assert result.exit_code == (5 if status in FAILED else 0)
    assert f"\n{status}: tiny b2 " in result.stdout
    assert f"3 cases planned: 2 ok, 1 {status}\n" in result.stdout


def test_a_dead_drivers_lock_in_an_object_store_is_taken_over_when_asked(invoke, launcher, mistake):
    address = "memory://left-by-a-dead-driver"
    words = f"sweep -m tiny -b 1 --store {address}"
    invoke(words)
    (sweep_id,) = Store(address).sweep_ids()
    lock = Store(address).path / sweep_id / ".lock"
    lock.write_bytes(b"elsewhere, process 7, since then")
    refusal = mistake(invoke(words))
    taken_over = invoke(f"{words} --take-over")

    assert "(elsewhere, process 7, since then): wait for it" in refusal
    assert refusal.endswith(f"If it is dead, delete '{lock}', or use sam-bench sweep --take-over.")
    assert taken_over.exit_code == 0, taken_over.stderr
    assert not lock.exists()


def test_ctrl_c_ends_with_exit_code_130_and_the_same_command_goes_on(invoke, launcher):
    launcher.script = {2: KeyboardInterrupt()}
    stopped = invoke("sweep -m tiny -b 1,2,4")
    launcher.script = {}
    finished = invoke("sweep -m tiny -b 1,2,4")

    assert stopped.exit_code == 130
    assert stopped.stderr == "Interrupted. The same command goes on where this one stopped.\n"
    assert finished.exit_code == 0
    assert launcher.batch_sizes == [1, 2, 2, 4]


def test_ctrl_c_on_a_fresh_sweep_says_how_it_goes_on(invoke, launcher):
    launcher.script = {2: KeyboardInterrupt()}
    stopped = invoke("sweep -m tiny -b 1,2 --fresh")

    assert stopped.stderr.endswith("goes on where this one stopped, without --fresh.\n")


def test_ctrl_c_where_nothing_can_go_on_promises_nothing(invoke, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "probe_environment", stop)
    stopped = invoke("plan -m tiny")

    assert (stopped.exit_code, stopped.stderr) == (130, "Interrupted.\n")


def test_a_refused_checkpoint_ends_with_its_line(invoke, launcher):
    launcher.script = {1: SweepError("the checkpoint is empty.")}
    result = invoke("sweep -m tiny -b 1,2")

    assert result.exit_code == 2
    assert result.stderr == "Error: the checkpoint is empty.\n"


def test_a_defect_of_ours_is_not_hidden_as_a_mistake(invoke, launcher):
    launcher.script = {1: ZeroDivisionError("ours")}

    assert isinstance(invoke("sweep -m tiny -b 1").exception, ZeroDivisionError)


def test_fresh_measures_again(invoke, launcher):
    for flag in ("", "", "--fresh"):
        invoke(f"sweep -m tiny -b 1 {flag}")

    assert launcher.batch_sizes == [1, 1]


@pytest.mark.parametrize(("flag", "sizes"), [("", [1, 2]), ("--no-prune", [1, 2, 4])])
def test_larger_batches_are_tried_where_pruning_is_off(invoke, launcher, flag, sizes):
    launcher.script = {2: "oom"}
    invoke(f"sweep -m tiny -b 1,2,4 {flag}")

    assert launcher.batch_sizes == [*sizes, 1]  # last the first again, to see whether it drifted


def test_flags_win_over_the_file_and_the_file_over_quick(invoke, launcher, tmp_path):
    text = 'model = "tiny"\nbatch_size = [1, 2]\nseed = 7\nwarmup_s = 9'
    (tmp_path / "sweep.toml").write_text(text)
    result = invoke("sweep --config sweep.toml --quick -b 4 --seed 8")
    (record,) = Store("runs").read().records

    assert result.exit_code == 0, result.stderr
    assert (record.case.model, record.case.batch_size) == ("tiny", 4)
    assert (record.plan.seed, record.plan.warmup_s) == (8, 9.0)
    assert record.plan.min_forwards == QUICK["min_forwards"]


def test_values_that_stand_twice_are_noted(invoke):
    result = invoke("plan -m tiny -b 1,1,2")

    assert result.stderr == "note: --batch-size: values that stand twice are measured once\n"
    assert result.stdout.splitlines()[-1].startswith("2 cases to measure, about ")


def test_a_plan_estimates_from_records_of_this_machine(invoke, make_store, make_record, here):
    make_store(make_record(environment=here))

    assert "(from earlier records)" in invoke("plan -m tiny --device cpu").stdout
    assert "a guess" in invoke("plan -m tiny,vit_b --device cpu").stdout


@pytest.mark.parametrize("gpus", [0, 1])
def test_quickstart_measures_what_the_machine_can(
    invoke, launcher, monkeypatch, make_gpu_environment, gpus
):
    machine = make_gpu_environment(*["9.0"] * gpus)
    monkeypatch.setattr(environment, "probe_environment", lambda: machine)
    result = invoke("quickstart")
    models = {case.model for case in launcher.measured}
    sizes = {case.image_size for case in launcher.measured}

    assert result.exit_code == 0, result.stderr
    assert (models, sizes) == (({"vit_b", "vit_l"}, {1024}) if gpus else ({"vit_b"}, {256}))


@pytest.mark.parametrize(("flag", "times"), [("", 1), ("--fresh", 2)])
def test_quickstart_measures_again_where_it_is_asked_to(invoke, launcher, flag, times):
    invoke("quickstart")
    cases = len(launcher.measured)
    result = invoke(f"quickstart {flag}")

    assert result.exit_code == 0, result.stderr
    assert len(launcher.measured) == times * cases


def test_what_an_execution_can_not_do_is_a_record_beside_what_it_can(invoke, launcher):
    result = invoke("sweep -m tiny -b 1 -p fp32,bf16 --execution eager,onnxruntime --device cpu")

    assert result.exit_code == 0, result.stderr
    assert len(launcher.measured) == 3 + 1  # the first again
    assert "4 cases planned: 3 ok, 1 unsupported\n" in result.stdout
    assert "onnxruntime is run in fp32 on a CPU alone, not in bf16 on cpu\n" in result.stdout


def test_quickstart_is_short_for_the_sweep_that_it_names(invoke, launcher):
    first = invoke("quickstart").stdout.splitlines()[0]
    words = first.removeprefix("This is short for: sam-bench ")
    measured = len(launcher.measured)
    result = invoke(words)

    assert "are measured (--fresh measures again)" in result.stdout
    assert len(launcher.measured) == measured


@pytest.mark.parametrize(("flag", "sizes"), [("", [1, 2, 4, 1]), ("--quick", [1, 2, 4])])
def test_a_quick_sweep_does_not_look_for_drift(invoke, launcher, flag, sizes):
    invoke(f"sweep -m tiny -b 1,2,4 {flag}")

    assert launcher.batch_sizes == sizes


def test_a_sweep_says_what_it_cost_beside_its_measuring(invoke, launcher):
    result = invoke("sweep -m tiny -b 1,2")

    assert re.search(
        r"\nIt took \d+ s, \d+\.\d\d times its timed and warm-up work\.\n", result.stdout
    )


def test_the_table_counts_the_self_checks(invoke, launcher):
    result = invoke("sweep -m tiny -b 1,2")

    assert re.search(r"self-checks: \d+ made, \d+ warn, 0 invalid", result.stdout)


def test_an_invalid_case_is_kept_and_shown_and_ends_with_exit_code_5(
    invoke, launcher, make_case, fake_device
):
    launcher.measurement = fake_device.measurement_of(make_case(image_size=1024), finite=False)
    result = invoke("sweep -m tiny -b 2 --device cpu")
    (record,) = Store("runs").read().records
    line = f"invalid: {record.case.label}: output: it holds NaN or infinity"

    assert result.exit_code == 5
    assert (record.status, record.measurement.output) == ("invalid", launcher.measurement.output)
    assert line in result.stdout
    assert line in invoke("show").stdout


def test_warnings_end_with_exit_code_0(invoke, launcher, make_case, fake_device):
    launcher.measurement = fake_device.measurement_of(make_case(image_size=1024), covered=0.8)
    result = invoke("sweep -m tiny -b 2 --device cpu")
    (record,) = Store("runs").read().records

    assert result.exit_code == 0
    assert record.checks["coverage"].verdict == "warn"


# For true


def test_ctrl_c_on_a_true_sweep_ends_with_exit_code_130_and_one_line(true_sweep):
    assert true_sweep.stopped.returncode == 130
    assert true_sweep.stopped.stderr == (
        "Interrupted. The same command goes on where this one stopped.\n"
    )


def test_ctrl_c_loses_no_finished_case(true_sweep):
    assert true_sweep.after[1] == "ok"
    assert set(true_sweep.after.values()) <= {"ok", "interrupted"}
    assert len(true_sweep.after) < 4


def test_the_same_command_finishes_a_true_sweep(true_sweep):
    assert true_sweep.finished.returncode == 0, true_sweep.finished.stderr
    assert "goes on: " in true_sweep.finished.stdout
    assert "3 cases planned: 3 ok\n" in true_sweep.finished.stdout
    assert true_sweep.finished.stderr == ""


def test_a_true_record_holds_every_pass_and_the_command_that_repeats_it(true_sweep):
    # But for upstream's arithmetic, which is compared with nothing.
    found = ["latency", "modules", "memory", "flops", "components"]
    for record in Store(true_sweep.store).read().records:
        measurement = record.measurement.model_dump(exclude={"notes"})

        del measurement["batch_error"]  # of the first case of a worker
        assert [name for name, value in measurement.items() if value is None] == []
        assert sorted(measurement["passes"]) == sorted(found)
        assert record.command == f"sam-bench {true_sweep.command}"


def test_no_environment_variable_is_in_a_true_store(true_sweep, secret):
    files = [path.read_text() for path in true_sweep.store.rglob("*.json")]

    assert len(files) == 5  # the plan, three records, the end
    assert not any(secret in text or "SECRET_TOKEN" in text for text in files)


def test_a_batch_that_does_not_fit_is_a_row_and_the_sweep_goes_on(invoke):
    result = invoke(
        "sweep -m tiny -s 1024 -b 1,100000,200000 --attention reference,sdpa --passes latency "
        f"{HASTY} --max-forwards 1"
    )
    statuses = [record.status for record in Store("runs").read().records]

    assert result.exit_code == 0, result.stderr
    assert statuses == ["ok", "oom", "skipped"] * 2
    assert "6 cases planned: 2 ok, 2 oom, 2 skipped\n" in result.stdout


def test_all_that_can_be_asked_for_is_measured_in_a_true_sweep(invoke):
    result = invoke(
        "sweep -m tiny -s 64 -b 1 --execution eager,onnxruntime --attention sdpa "
        f"--passes latency,components,embedding_error,mask_generator --points-per-side 2 {HASTY}"
    )
    eager, by_onnxruntime = (record.measurement for record in Store("runs").read().records)

    assert result.exit_code == 0, result.stderr
    assert "2 cases planned: 2 ok\n" in result.stdout
    assert max(each.embedding_error.relative_l2 for each in (eager, by_onnxruntime)) < 1e-4
    assert eager.mask_generator_s is not None
    assert by_onnxruntime.notes["mask_generator"].startswith("unsupported: ")
    for title in ("embedding", "From files to the masks", "Mask generator"):
        assert title in result.stdout


BROKEN_CHECKPOINTS = {
    "empty": (b"", "is empty: download it again."),
    "web page": (b"<!DOCTYPE html><title>404</title>", "is a web page"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN_CHECKPOINTS.values(), ids=BROKEN_CHECKPOINTS)
def test_a_broken_checkpoint_ends_the_sweep_in_one_line(invoke, tmp_path, content, reason):
    (tmp_path / "weights.pth").write_bytes(content)
    result = invoke(f"sweep -m tiny -s 64 -b 1 --weights weights.pth {HASTY}")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: 'weights.pth' ")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert Store("runs").read().records == []


def test_a_folder_of_unreadable_images_ends_the_sweep_in_one_line(invoke, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.jpg").write_text("no image")
    result = invoke(f"sweep -m tiny -s 64 -b 1 --images images {HASTY}")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: No image of 'images' can be used. The first: ")
