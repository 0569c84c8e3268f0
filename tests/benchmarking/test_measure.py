"""Passes over a tiny model, for true: what each measures, and how the numbers fit together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from benchmarking.choices.execution import EXECUTIONS, prepare_eager
from benchmarking.choices.precision import PRECISIONS
from benchmarking.measuring import measure
from benchmarking.measuring.measure import describe_output, measure_case
from benchmarking.measuring.passes.bench import Bench
from benchmarking.measuring.passes.table import PASSES, default_passes, passes_help
from benchmarking.measuring.rig import build_rig
from results.records.measurement import ENCODER, RESULTS, Measurement

ON_A_CPU = tuple(name for name in PASSES if name != "energy")
# What lets every pass find something, at once.
EVERYTHING = {"attention": "sdpa", "passes": tuple(PASSES), "points_per_side": 2}
HIDING = [name for name, execution in EXECUTIONS.items() if execution.hides_modules]
HIDING_MEMORY = [name for name, execution in EXECUTIONS.items() if execution.hides_memory("cpu")]
BLOCKS = [f"blocks.{index}" for index in range(4)]
PARTS = ("norm1", "attn", "norm2", "mlp")


@pytest.fixture(scope="module")
def measured(run_case):
    """All passes of two photographs; a module's cap too high to cut its forwards."""
    return run_case(input="images", max_timed_s=60.0, **EVERYTHING)


@pytest.fixture(scope="module")
def deep(run_case):
    return run_case(passes=("modules",), module_depth=2, max_timed_s=60.0).modules


# Passes


@pytest.mark.parametrize("name", PASSES)
def test_a_row_of_the_table_says_all_that_is_asked_of_it(make_case, make_plan, name):
    row, case = PASSES[name], make_case(device="cuda:0")

    assert row.summary
    assert row.why_not(case) is None
    assert row.seconds(case, make_plan(), 1.0) >= 0
    assert row.result is RESULTS.get(name, row.result)
    assert name in passes_help() if row.on_request else name in default_passes()


def test_every_result_that_tables_show_has_its_pass():
    assert set(RESULTS) <= set(PASSES)


@pytest.mark.parametrize("name", ON_A_CPU)
def test_a_pass_finds_something(measured, name):
    assert isinstance(measured.passes[name], PASSES[name].result)


def test_energy_is_missing_on_a_cpu_with_a_note(measured):
    assert measured.energy is None
    assert measured.notes["energy"] == "unsupported: NVML counts the energy of GPUs alone"


@pytest.mark.parametrize("name", ON_A_CPU)
def test_a_pass_alone_finds_nothing_else(run_case, name):
    alone = run_case(image_size=32, **EVERYTHING | {"passes": (name,)})

    assert list(alone.passes) == [name]


def test_stages_are_told_in_their_order(run_case):
    stages = []
    run_case(stages.append, passes=("latency", "flops"), image_size=32)

    assert stages == ["inputs", "latency", "flops", "output"]


def test_latency_holds_as_many_forwards_as_the_plan_asks_for(measured):
    assert 6 <= len(measured.latency.forward_s) <= 8
    assert min(measured.latency.forward_s) > 0


def test_memory_holds_the_weights_and_more(measured):
    memory = measured.memory

    assert memory.peak_bytes >= memory.weights_bytes > 4 * measured.parameters
    assert memory.source == "resident memory of the process"


def test_the_output_is_finite_and_one_embedding_an_image(measured):
    assert measured.output.finite
    assert measured.output.shape == (2, 256, 4, 4)
    assert measured.output.dtype == "float32"


def test_the_flags_that_change_a_result_are_recorded(measured):
    assert measured.flags["matmul_allow_tf32"] is False
    assert measured.flags["cudnn_allow_tf32"] is False
    assert measured.flags["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("precision", [name for name, each in PRECISIONS.items() if each.on_cpu])
def test_every_pass_runs_in_every_precision(run_case, precision):
    measured = run_case(
        precision=precision, image_size=32, min_forwards=1, max_forwards=1, **EVERYTHING
    )

    assert [name for name in ON_A_CPU if name not in measured.passes] == []
    assert measured.output.finite
    assert measured.output.dtype == PRECISIONS[precision].dtype


def test_no_hook_is_on_while_latency_and_memory_are_measured(make_case, make_plan, monkeypatch):
    case, plan = make_case(image_size=32), make_plan(passes=("latency", "memory"))
    rig = build_rig(case, plan)
    encode, hooks = rig.encode, []

    def spying(images):
        modules = rig.model.modules()
        hooks.extend(hook for each in modules for hook in (each._forward_hooks or ()))
        return encode(images)

    rig.encode = spying
    measure_case(case, plan, rig, lambda stage: None)

    assert hooks == []


def test_no_hook_is_left_after_all_passes(make_case, make_plan):
    case, plan = make_case(image_size=32), make_plan(passes=tuple(PASSES), points_per_side=2)
    rig = build_rig(case, plan)
    measure_case(case, plan, rig, lambda stage: None)

    assert [each for each in rig.model.modules() if each._forward_hooks] == []


# Modules


def test_modules_are_the_encoder_its_patch_embedding_blocks_and_neck(measured):
    assert list(measured.modules) == [ENCODER, "patch_embed", *BLOCKS, "neck"]


def test_one_level_deeper_are_the_parts_of_each_block(deep):
    parts = [f"{block}.{part}" for block in BLOCKS for part in PARTS]

    assert sorted(deep) == sorted([ENCODER, "patch_embed", *BLOCKS, *parts, "neck"])


def test_each_module_is_timed_in_each_forward(measured):
    lengths = {len(timing.total_s) for timing in measured.modules.values()}

    assert lengths == {3}


@pytest.mark.parametrize("name", ["measured", "deep"])
def test_self_times_add_up_to_the_encoders_time_in_each_forward(request, name):
    found = request.getfixturevalue(name)
    modules = found.modules if isinstance(found, Measurement) else found
    sums = [sum(each) for each in zip(*(timing.self_s for timing in modules.values()), strict=True)]

    assert sums == pytest.approx(modules[ENCODER].total_s, rel=1e-9)


def test_a_module_without_timed_parts_spends_all_itself(measured):
    for name in ("patch_embed", *BLOCKS, "neck"):
        timing = measured.modules[name]

        assert timing.self_s == pytest.approx(timing.total_s)


def test_each_module_has_its_kind_and_memory(measured):
    kinds = [timing.kind for timing in measured.modules.values()]

    assert kinds == ["encoder", "patch_embed", *["window", "global"] * 2, "neck"]
    assert all(
        timing.rise_bytes is not None
        for name, timing in measured.modules.items()
        if name != ENCODER
    )


# Work


def test_each_module_has_its_work(measured):
    missing = [name for name, timing in measured.modules.items() if timing.work is None]

    assert missing == []


def test_the_work_of_the_encoder_is_that_of_the_module(measured):
    assert measured.work == measured.modules[ENCODER].work


@pytest.mark.parametrize("name", [ENCODER, "patch_embed", *BLOCKS, "neck"])
def test_flops_of_a_module_are_those_of_the_whole_batch(measured, run_case, name):
    alone = run_case(batch_size=1, passes=("modules",), attention="sdpa").modules[name].work

    assert measured.modules[name].work.flops == 2 * alone.flops > 0


# Execution, inputs, weights


@pytest.mark.parametrize("name", HIDING)
def test_modules_that_an_execution_hides_are_missing_with_a_note(run_case, monkeypatch, name):
    # As that execution, without its time: what decides is the entry, not the compiler.
    monkeypatch.setitem(EXECUTIONS, name, replace(EXECUTIONS[name], prepare=prepare_eager))
    measured = run_case(execution=name, passes=("modules", "flops"), image_size=32)

    assert measured.modules is None
    assert measured.notes["modules"] == f"unsupported: {EXECUTIONS[name].hides_modules}"
    assert measured.work.flops > 0


@pytest.mark.parametrize("name", HIDING_MEMORY)
def test_a_peak_that_an_execution_hides_is_missing_with_a_note(run_case, monkeypatch, name):
    monkeypatch.setitem(EXECUTIONS, name, replace(EXECUTIONS[name], prepare=prepare_eager))
    measured = run_case(execution=name, passes=("memory", "flops"), image_size=32)

    assert measured.memory is None
    assert measured.notes["memory"] == f"unsupported: {EXECUTIONS[name].hides_memory('cpu')}"
    assert measured.work.flops > 0


def test_of_blocks_that_are_compiled_no_part_is_timed(run_case, monkeypatch):
    # Captured alone, without generating code, which takes most of the time.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    measured = run_case(
        execution="regional", passes=("modules", "flops"), image_size=32, module_depth=2
    )

    assert list(measured.modules) == [ENCODER, "patch_embed", *BLOCKS, "neck"]
    assert measured.notes["modules"].startswith("nothing within a block was timed: ")
    assert measured.work.flops == measured.modules[ENCODER].work.flops > 0


def test_the_kind_of_input_is_in_the_record(measured, run_case):
    noise = run_case(passes=("flops",), image_size=32, seed=7)

    assert measured.input_source == "3 of the photographs of sam-bench, 3 points"
    assert noise.input_source == "noise, seed 7"


def test_an_image_that_was_passed_over_is_named_in_the_record(run_case, photograph):
    (photograph / "broken.jpg").touch()
    measured = run_case(input="images", passes=("flops",), images=str(photograph), image_size=32)

    assert measured.input_source == f"1 of {photograph}, 1 points"
    assert "broken.jpg' can't be decoded" in measured.notes["input"]


def test_a_seed_gives_the_same_output_and_another_seed_another(run_case):
    first, again, other = (run_case(passes=(), seed=seed).output.sha256 for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_the_digest_is_of_the_first_image_alone():
    images = torch.randn(3, 256, 2, 2)
    others = torch.cat([images[:1], torch.randn(4, 256, 2, 2)])

    assert describe_output(images).sha256 == describe_output(others).sha256


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_output_with_one_bad_value_is_not_finite(value):
    images = torch.zeros(2, 256, 2, 2)
    images[1, 7, 0, 1] = value

    assert not describe_output(images).finite


def test_each_forward_takes_another_batch():
    rig = SimpleNamespace(encode=lambda batch: batch)
    forward = Bench(None, None, rig, ["first", "second"], None).rotation()

    assert [forward() for _ in range(4)] == ["first", "second"] * 2


# What the self-checks look at


def test_forwards_without_hooks_are_as_many_as_those_with(measured):
    assert len(measured.plain_forward_s) == len(measured.modules[ENCODER].total_s) > 0


def test_the_first_batch_size_of_a_rig_is_compared_with_nothing(run_case, make_case, make_plan):
    rig = build_rig(make_case(), make_plan())

    assert run_case(rig=rig, passes=("flops",)).batch_error is None


def test_another_batch_size_gives_the_first_image_the_same_embedding(
    run_case, make_case, make_plan
):
    rig = build_rig(make_case(), make_plan())
    for size in (1, 2):
        measured = run_case(rig=rig, passes=("flops",), batch_size=size)

    assert 0 <= measured.batch_error < 1e-4


def test_an_embedding_that_depends_on_the_batch_is_found(make_case, make_plan):
    rig = build_rig(make_case(), make_plan())
    measure.batch_error(make_case(batch_size=1), rig, torch.ones(1, 256, 4, 4))

    assert measure.batch_error(make_case(), rig, torch.full((2, 256, 4, 4), 1.5)) == 0.5


def test_embeddings_of_other_inputs_are_not_compared(make_case, make_plan):
    rig = build_rig(make_case(), make_plan())
    measure.batch_error(make_case(input="noise"), rig, torch.ones(1, 256, 4, 4))

    assert measure.batch_error(make_case(input="images"), rig, torch.zeros(1, 256, 4, 4)) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_embedding_has_no_distance(make_case, make_plan, value):
    rig = build_rig(make_case(), make_plan())
    measure.batch_error(make_case(), rig, torch.ones(1, 256, 4, 4))

    assert measure.batch_error(make_case(), rig, torch.full((1, 256, 4, 4), value)) is None
