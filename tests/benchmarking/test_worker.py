"""What the worker makes of a case that goes wrong."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
import torch

from benchmarking.choices.inputs import InputError
from benchmarking.errors import SweepError
from benchmarking.measuring import measure
from benchmarking.measuring.failures import classify
from benchmarking.measuring.passes.table import PASSES
from benchmarking.measuring.rig import build_rig
from benchmarking.measuring.worker import AnswerWriter, attempt
from benchmarking.sweeping.protocol import Answer, Beat, Outcome, Refusal, Request, Stage
from sam.files.checkpoints import CheckpointError

ERRORS = {
    "memory of Python": (MemoryError(), "oom"),
    "memory of torch": (torch.OutOfMemoryError("CUDA out of memory. Tried to ..."), "oom"),
    "memory of the CPU": (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), "oom"),
    "memory of cuBLAS": (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when ..."), "oom"),
    "memory of the driver": (RuntimeError("CUDA error: out of memory"), "oom"),
    "a CUDA error": (RuntimeError("CUDA error: an illegal memory access"), "cuda_error"),
    "a wrong value": (ValueError("no"), "crashed"),
    "a wrong file": (OSError("Cannot allocate memory"), "crashed"),
}
MISTAKES = [InputError("no image."), SweepError("no sweep."), CheckpointError("no weights.")]


@pytest.fixture(scope="module")
def rig(make_case, make_plan):
    return build_rig(make_case(image_size=32), make_plan())


@pytest.fixture
def request_tiny(make_case, make_plan):
    return Request(case=make_case(image_size=32), plan=make_plan(passes=("latency",)))


@pytest.fixture
def fail_with(monkeypatch):
    """Make measuring fail in its latency pass."""

    def install(error):
        def measure_case(case, plan, rig, report):
            report("latency")
            raise error

        monkeypatch.setattr(measure, "measure_case", measure_case)

    return install


def ignore(stage):
    """Nobody listens."""


def test_a_case_that_ends_well_is_ok_with_its_measurement(rig, request_tiny):
    outcome = attempt(request_tiny, rig, ignore)

    assert (outcome.status, outcome.stage, outcome.message) == ("ok", None, None)
    assert outcome.measurement.latency.forward_s
    assert outcome.wall_s > 0


def test_stages_are_said_as_they_begin(rig, request_tiny):
    said = []
    attempt(request_tiny, rig, said.append)

    assert said == [Stage(name=name) for name in ("inputs", "latency", "output")]


def test_weights_that_are_not_finite_make_a_case_invalid_and_keep_its_numbers(
    make_case, make_plan, request_tiny
):
    rig = build_rig(make_case(image_size=32), make_plan())
    with torch.no_grad():
        rig.model.image_encoder.pos_embed[0, 0, 0, 0] = float("nan")
    outcome = attempt(request_tiny, rig, ignore)

    assert (outcome.status, outcome.stage) == ("invalid", "output")
    assert outcome.message == "the output holds NaN or infinity"
    assert outcome.measurement.latency is not None


@pytest.mark.parametrize(("error", "status"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_the_cases_status_with_its_stage(
    rig, request_tiny, fail_with, capfd, error, status
):
    fail_with(error)
    outcome = attempt(request_tiny, rig, ignore)

    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.stage) == (status, "latency")
    assert outcome.message.startswith(type(error).__name__)
    assert "Traceback" in capfd.readouterr().err  # for the record's tail


def test_what_was_measured_before_a_pass_failed_is_kept(rig, make_case, make_plan, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setitem(PASSES, "memory", replace(PASSES["memory"], run=fail))
    plan = make_plan(passes=("latency", "memory", "flops"))
    outcome = attempt(Request(case=make_case(image_size=32), plan=plan), rig, ignore)

    assert (outcome.status, outcome.stage) == ("oom", "memory")
    assert outcome.measurement.latency is not None
    assert (outcome.measurement.work, outcome.measurement.output) == (None, None)


@pytest.mark.parametrize("error", MISTAKES, ids=lambda error: type(error).__name__)
def test_a_persons_mistake_is_refused_without_a_traceback(
    rig, request_tiny, fail_with, capfd, error
):
    fail_with(error)

    assert attempt(request_tiny, rig, ignore) == Refusal(message=str(error))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_end_from_outside_is_no_outcome(rig, request_tiny, fail_with, signal):
    fail_with(signal())
    with pytest.raises(signal):
        attempt(request_tiny, rig, ignore)


def test_an_errors_message_is_its_first_line_and_not_too_long():
    _, message = classify(ValueError("x" * 10**6 + "\nmore"))

    assert len(message) < 400
    assert "\n" not in message


# Its voice


class Pipe(io.StringIO):
    """Writes letter by letter, as a pipe may, so that two writers at once would mix."""

    def write(self, text):
        for letter in text:
            super().write(letter)
        return len(text)


def heard(pipe):
    return [Answer.model_validate_json(line).said for line in pipe.getvalue().splitlines()]


def test_beats_come_while_something_else_is_done(wait_until):
    pipe = Pipe()
    with AnswerWriter(pipe).beating(every_s=0.001):
        wait_until(lambda: len(heard(pipe)) >= 3)

    assert set(heard(pipe)) == {Beat()}


def test_no_beat_comes_after_the_end():
    pipe = Pipe()
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), AnswerWriter(pipe).beating(every_s=0.001):
        raise KeyboardInterrupt

    assert threading.active_count() == threads


def test_beats_garble_no_answer():
    pipe = Pipe()
    voice = AnswerWriter(pipe)
    said = [Stage(name=f"stage {number}" * 20) for number in range(300)]
    with voice.beating(every_s=0.0):
        for stage in said:
            voice.say(stage)

    assert [each for each in heard(pipe) if not isinstance(each, Beat)] == said
    assert Beat() in heard(pipe)


def test_a_listener_that_is_gone_ends_the_beats_without_a_word(wait_until):
    class Gone(Pipe):
        def write(self, text):
            raise BrokenPipeError

    threads = threading.active_count()
    with AnswerWriter(Gone()).beating(every_s=0.001):
        wait_until(lambda: threading.active_count() == threads)
