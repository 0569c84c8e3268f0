"""From axes to cases, and what can't be run to one line that says what to do."""

from __future__ import annotations

import itertools

import pytest

from benchmarking.choices.settings import parse_sweep
from benchmarking.choices.sweep import (
    MAX_CASES,
    MAX_VALUES,
    VOCABULARY,
    Sweep,
    check_weights,
    checkpoint_path,
    foreseen_reason,
    unsupported_reason,
)
from benchmarking.errors import quoted, suggestion
from results.records.case import AXES, OWN, Case, TimingPlan
from sam.families import MODELS

OFFICIAL = [name for name, config in MODELS.items() if config.checkpoint]


# One name from flag to axis


def test_the_axes_of_a_sweep_are_the_fields_of_a_case():
    assert set(Sweep.model_fields) == set(Case.model_fields) == set(AXES)


def test_no_setting_has_two_meanings():
    assert set(Sweep.model_fields).isdisjoint(TimingPlan.model_fields)


def test_every_axis_has_a_title_a_help_text_and_a_default():
    incomplete = [
        name
        for name, axis in AXES.items()
        if not (axis.title and axis.help.endswith(".") and axis.default)
    ]

    assert incomplete == []


def test_every_field_of_the_plan_has_its_help_beside_it():
    fields = TimingPlan.model_fields.items()

    assert [name for name, field in fields if not field.description] == []


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_default_is_a_word_of_its_vocabulary(name):
    assert set(Sweep.model_fields[name].default) <= set(VOCABULARY[name])


# Cases


def test_cases_are_every_combination_once(environment):
    sizes = ("1..4", (1, 2, 4))
    asked, _, _ = parse_sweep(
        {"model": "tiny,vit_b", "batch_size": sizes[0], "input": "images,noise", "device": "cpu"}
    )
    cases = asked.cases(environment)
    combinations = [(case.model, case.input, case.batch_size) for case in cases]

    assert combinations == list(itertools.product(("tiny", "vit_b"), ("images", "noise"), sizes[1]))
    assert len({case.case_id for case in cases}) == len(cases)


def test_batch_sizes_ascend_last_however_they_were_asked(environment):
    asked, _, _ = parse_sweep({"batch_size": "8,1,4", "attention": "sdpa,reference"})
    cases = asked.cases(environment)

    assert [case.batch_size for case in cases] == [1, 4, 8] * 2
    assert [case.attention for case in cases] == ["sdpa"] * 3 + ["reference"] * 3


def test_cases_of_a_family_stand_together_so_that_a_worker_serves_them(environment):
    asked, _, _ = parse_sweep(
        {"model": "tiny,vit_b", "image_size": "64,128", "input": "images,noise"}
    )
    families = [case.worker_key for case in asked.cases(environment)]

    assert len(list(itertools.groupby(families))) == len(set(families)) == 4


@pytest.mark.parametrize("name", AXES)
def test_every_axis_tells_cases_apart(make_case, name):
    other = {"batch_size": 3, "image_size": 80}.get(name, "other")

    assert make_case(**{name: other}).case_id != make_case().case_id


def test_too_many_cases_are_refused_with_their_count(environment, refusal):
    asked = Sweep(
        batch_size=tuple(range(1, 1001)),
        image_size=tuple(range(16, 16_001, 16)),
        model=("tiny", "vit_b", "vit_l"),
    )

    assert f"at most {MAX_CASES} cases, and these axes make 3000000" in refusal(
        asked.cases, environment
    )


def test_too_many_values_of_an_axis_are_refused_also_without_text():
    with pytest.raises(ValueError, match=f"at most {MAX_VALUES} values, got {MAX_VALUES + 1}"):
        Sweep(batch_size=tuple(range(1, MAX_VALUES + 2)))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        *[({"model": model, "image_size": "64,1000"}, 1000) for model in MODELS],
        ({"encoder": "a:f", "model": "tiny", "image_size": "224,50"}, 50),
    ],
    ids=[*MODELS, "tiny beside an encoder"],
)
def test_an_image_size_that_sam_does_not_take_is_refused(settings, size, environment, refusal):
    asked, _, _ = parse_sweep(settings)
    model = settings["model"]

    assert refusal(asked.cases, environment) == (
        f"--image-size must be a multiple of 16 for {model}, got {size}."
    )


# Kinds of GPU


def test_where_no_kind_is_named_a_place_is_a_device(make_gpu_environment):
    machine = make_gpu_environment("9.0", "9.0")

    assert Sweep(device=("cuda:1", "cpu")).places(machine) == [("cuda:1", None), ("cpu", None)]


def test_a_kind_is_the_only_gpu_that_its_process_sees(environment):
    assert Sweep(gpu=("L4", "any", "cpu")).places(environment) == [
        ("cuda:0", "L4"), ("cuda:0", "any"), ("cpu", None),
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("gpu", ["L4", "cpu"])
def test_a_kind_and_a_device_are_not_named_together(environment, refusal, gpu, device):
    line = refusal(Sweep(gpu=(gpu,), device=(device,)).cases, environment)

    assert line.endswith(f"got --gpu {gpu} and --device {device}: give one.")


def test_cases_of_kinds_are_made_on_a_machine_that_has_none(environment):
    cases = Sweep(gpu=("L4", "H200"), precision=("bf16", "fp8")).cases(environment)

    assert {case.gpu for case in cases} == {"L4", "H200"}
    assert len(cases) == 2 * 2 * len(Sweep().batch_size)


def test_cases_of_a_kind_and_model_stand_together(environment):
    cases = Sweep(gpu=("L4", "H200"), model=("tiny", "vit_b")).cases(environment)
    families = [case.worker_key for case in cases]

    assert len(list(itertools.groupby(families))) == len(set(families)) == 4


def test_a_kind_tells_a_case_apart_and_its_absence_changes_no_id(make_case):
    ids = [make_case(device="cuda:0", gpu=gpu).case_id for gpu in (None, "any", "L4")]

    assert len(set(ids)) == 3
    assert ids[0] == make_case(device="cuda:0").case_id


@pytest.mark.parametrize(
    ("gpu", "place"), [(None, "cuda:0"), ("any", "any GPU"), ("H100 PCIe", "H100 PCIe")]
)
def test_a_case_says_where_it_runs(make_case, gpu, place):
    case = make_case(device="cuda:0", gpu=gpu)

    assert case.place == place
    assert f" {place} " in case.label


def test_what_a_kind_can_do_is_left_to_its_machine(make_case, environment):
    case = make_case(precision="fp8", device="cuda:0", gpu="T4")

    assert foreseen_reason(case, environment) is None


def test_what_no_gpu_can_do_is_foreseen(make_case, environment):
    case = make_case(execution="onnxruntime", device="cuda:0", gpu="L4")

    assert foreseen_reason(case, environment).startswith("onnxruntime is run in fp32 on a CPU")


def test_a_sweep_of_kinds_of_which_nothing_can_run_is_refused(environment, refusal):
    line = refusal(Sweep(gpu=("cpu",), precision=("tf32",)).cases, environment)

    assert line == "Nothing of this sweep can run: tf32 needs a CUDA GPU; a CPU has none of it."


# Devices


@pytest.mark.parametrize(
    ("asked", "gpus", "device"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 2, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda:0001", 2, "cuda:1"),
    ],
)
def test_a_device_is_named_as_the_machine_has_it(make_gpu_environment, asked, gpus, device):
    cases = Sweep(device=(asked,)).cases(make_gpu_environment(*["9.0"] * gpus))

    assert {case.device for case in cases} == {device}


def test_the_first_gpu_is_the_first_that_computes(make_gpu_environment):
    machine = make_gpu_environment("7.5", "8.9")
    machine = machine.model_copy(update={"gpus": machine.gpus[1:]})
    cases = Sweep(precision=("bf16",)).cases(machine)

    assert {case.device for case in cases} == {"cuda:1"}
    assert {unsupported_reason(case, machine) for case in cases} == {None}


def test_a_device_by_two_names_is_measured_once(make_gpu_environment):
    cases = Sweep(device=("auto", "cuda", "cuda:0")).cases(make_gpu_environment("9.0"))

    assert len(cases) == len(Sweep().batch_size)


@pytest.mark.parametrize(
    ("gpus", "have"), [([], "are: none."), (["9.0", "9.0"], "are: cuda:0 a GPU, cuda:1 a GPU.")]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    make_gpu_environment, gpus, have, refusal
):
    line = refusal(Sweep(device=("cuda:99",)).cases, make_gpu_environment(*gpus))

    assert line.startswith("There is no device cuda:99")
    assert have in line


def test_a_sweep_of_which_nothing_can_run_is_refused_with_the_reason(make_gpu_environment, refusal):
    line = refusal(Sweep(precision=("bf16",)).cases, make_gpu_environment("7.5"))

    assert line.startswith("Nothing of this sweep can run: bf16 needs compute capability 8.0")


def test_a_precision_that_the_device_lacks_is_kept_beside_one_that_it_has(environment):
    cases = Sweep(precision=("fp32", "tf32"), batch_size=(1,)).cases(environment)
    reasons = [unsupported_reason(case, environment) for case in cases]

    assert reasons == [None, "tf32 needs a CUDA GPU; a CPU has none of it"]


def test_an_attention_that_the_device_lacks_is_kept_beside_one_that_it_has(environment):
    asked = Sweep(attention=("fold", "triton", "fold+triton"), batch_size=(1,))
    reasons = [unsupported_reason(case, environment) for case in asked.cases(environment)]

    assert reasons[0] is None
    assert all("triton needs a CUDA GPU" in reason for reason in reasons[1:])


def test_an_execution_that_the_case_lacks_is_kept_beside_one_that_it_has(environment):
    asked = Sweep(execution=("onnxruntime",), precision=("fp32", "bf16"), batch_size=(1,))
    reasons = [unsupported_reason(case, environment) for case in asked.cases(environment)]

    assert reasons == [None, "onnxruntime is run in fp32 on a CPU alone, not in bf16 on cpu"]


def test_an_execution_is_judged_by_its_own_device(make_gpu_environment):
    machine = make_gpu_environment("9.0")
    asked = Sweep(execution=("onnxruntime",), device=("cuda", "cpu"), batch_size=(1,))
    reasons = [unsupported_reason(case, machine) for case in asked.cases(machine)]

    assert reasons == ["onnxruntime is run in fp32 on a CPU alone, not in fp32 on cuda", None]


def test_a_precision_is_judged_by_its_own_gpu(make_gpu_environment):
    machine = make_gpu_environment("7.5", "8.9")
    sweep = Sweep(precision=("bf16",), device=("cuda:0", "cuda:1"), batch_size=(1,))
    reasons = [unsupported_reason(case, machine) for case in sweep.cases(machine)]

    assert "this GPU has 7.5" in reasons[0]
    assert reasons[1] is None


# Weights


def test_a_file_serves_one_model(tmp_path, environment):
    path = tmp_path / "own.pth"
    path.touch()

    assert checkpoint_path(str(path), "tiny") == path
    assert len(Sweep(weights=(str(path),), model=("tiny",)).cases(environment)) == 4


def test_a_file_for_several_models_is_refused(tmp_path, environment, refusal):
    path = tmp_path / "own.pth"
    path.touch()
    line = refusal(Sweep(weights=(str(path),), model=("vit_b", "vit_l")).cases, environment)

    assert "is one checkpoint, but the sweep has 2 models" in line


@pytest.mark.parametrize("model", OFFICIAL)
def test_a_folder_serves_each_model_by_its_official_name(tmp_path, model):
    path = tmp_path / MODELS[model].checkpoint.filename
    path.touch()

    assert checkpoint_path(str(tmp_path), model) == path


@pytest.mark.parametrize("model", OFFICIAL)
def test_missing_weights_come_with_the_command_that_fetches_them(tmp_path, model, refusal):
    line = refusal(checkpoint_path, str(tmp_path / "missing.pth"), model)

    assert f"Fetch them with: sam-bench download {model}, or use --weights random." in line


def test_missing_weights_of_a_model_without_official_ones_advise_no_download(tmp_path, refusal):
    line = refusal(checkpoint_path, str(tmp_path / "missing.pth"), "tiny")

    assert line.endswith("missing.pth'. Use --weights random.")


def test_a_folder_lacks_a_model_that_has_no_official_file(tmp_path, refusal):
    assert "no official checkpoint of tiny" in refusal(checkpoint_path, str(tmp_path), "tiny")


def test_a_name_too_long_for_a_file_is_refused(refusal):
    assert "can't be read: File name too long" in refusal(check_weights, "n" * 5000, ["tiny"])


# Encoders that are not ours


def test_an_encoder_is_measured_once_for_all_attention_and_weights_of_ours(environment, tmp_path):
    path = tmp_path / "own.pth"
    path.touch()
    asked, _, _ = parse_sweep(
        {
            "encoder": "a.b:f", "model": "tiny", "attention": "reference,sdpa", "batch_size": "1,2",
            "precision": "fp32,bf16", "weights": f"random,{path}",
        }
    )  # fmt: skip
    cases = asked.cases(environment)
    others = [case for case in cases if case.model == "a.b:f"]

    assert len(cases) == 2 * 2 * 2 * 2 + 2 * 2
    assert {(case.attention, case.weights) for case in others} == {(OWN, OWN)}
    assert {(case.precision, case.batch_size) for case in others} == set(
        itertools.product(("fp32", "bf16"), (1, 2))
    )


def test_cases_of_an_encoder_stand_together_so_that_a_worker_serves_them(environment):
    asked, _, _ = parse_sweep({"encoder": "a:f,b:g", "attention": "reference,sdpa"})
    families = [case.worker_key for case in asked.cases(environment)]

    assert len(list(itertools.groupby(families))) == len(set(families)) == 2


def test_an_encoder_takes_any_image_size(environment):
    asked, _, _ = parse_sweep({"encoder": "a:f", "image_size": "50,224"})

    assert {case.image_size for case in asked.cases(environment)} == {50, 224}


def test_weights_that_only_ours_need_are_not_looked_for(environment, tmp_path):
    asked, _, _ = parse_sweep({"encoder": "a:f", "weights": str(tmp_path / "missing.pth")})

    assert {case.weights for case in asked.cases(environment)} == {OWN}


def test_an_execution_of_ours_alone_is_kept_beside_one_that_an_encoder_has(environment):
    asked, _, _ = parse_sweep(
        {"encoder": "a:f", "execution": "eager,onnxruntime", "batch_size": "1"}
    )
    reasons = [unsupported_reason(case, environment) for case in asked.cases(environment)]

    assert reasons == [
        None,
        "onnxruntime needs an ONNX export, which an external encoder does not have",
    ]


# What lines are made of


def test_the_first_of_equally_close_names_is_suggested():
    assert suggestion("vit_x", MODELS) == " Did you mean 'vit_b'?"


def test_a_quoted_value_is_one_short_line_of_ascii():
    assert quoted("é\n\x1b" * 10**5) == "'" + "\\xe9\\n\\x1b" * 5 + "\\xe9\\n..."
