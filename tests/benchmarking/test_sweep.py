"""From flags or a TOML file to cases, and every bad input to one line that says what to do."""

from __future__ import annotations

import itertools
import os
import re

import pytest

from benchmarking import sweep as sweep_file
from benchmarking.sweep import (
    MAX_CASES,
    MAX_CONFIG_BYTES,
    MAX_VALUES,
    QUICK,
    VOCABULARY,
    Sweep,
    SweepError,
    check_weights,
    checkpoint_path,
    parse_sweep,
    read_config,
    suggestion,
    unsupported_reason,
)
from results.schema import AXES, PASSES, Case, TimingPlan
from sam.configs import MODELS

LONGEST_LINE = 500
OFFICIAL = [name for name, config in MODELS.items() if config.checkpoint]


def refusal(call, *arguments):
    """The one line with which a call is refused."""
    with pytest.raises(SweepError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert len(line) <= LONGEST_LINE
    assert line.isprintable()
    assert line.endswith((".", "?"))
    return line


@pytest.fixture
def config(tmp_path):
    """Read a sweep file with this content, text or bytes."""

    def read(content):
        path = tmp_path / "sweep.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_config(path)

    return read


# One name from flag to axis


def test_the_axes_of_a_sweep_are_the_fields_of_a_case():
    assert set(Sweep.model_fields) == set(Case.model_fields) == set(AXES)


def test_no_setting_has_two_meanings():
    assert set(Sweep.model_fields).isdisjoint(TimingPlan.model_fields)


@pytest.mark.parametrize("form", [Sweep, TimingPlan, Case], ids=lambda form: form.__name__)
def test_every_field_has_its_help_beside_it(form):
    assert [name for name, field in form.model_fields.items() if not field.description] == []


def test_nothing_asked_is_the_default_sweep_and_plan():
    assert parse_sweep({}) == (Sweep(), TimingPlan(), [])


def test_quick_changes_the_plan_alone():
    assert parse_sweep({}, quick=True) == (Sweep(), TimingPlan(**QUICK), [])


def test_a_setting_wins_over_quick():
    _, plan, _ = parse_sweep({"warmup_s": "7"}, quick=True)

    assert plan.warmup_s == 7.0


# Good values


@pytest.mark.parametrize(
    ("value", "sizes"),
    [
        ("8", (8,)),
        ("1,2,4", (1, 2, 4)),
        (" 1 , 2 ", (1, 2)),
        ("1..64", (1, 2, 4, 8, 16, 32, 64)),
        ("3..20", (3, 6, 12)),
        ("4..4", (4,)),
        ("1..2,8", (1, 2, 8)),
        ([1, "2..4"], (1, 2, 4)),
        (16, (16,)),
        ("1000000", (1_000_000,)),
    ],
)
def test_batch_sizes_are_numbers_lists_and_ranges_that_double(value, sizes):
    assert parse_sweep({"batch_size": value})[0].batch_size == sizes


def test_values_that_stand_twice_are_measured_once_and_a_note_says_so():
    asked, _, notes = parse_sweep({"batch_size": "1,1,2", "model": "tiny,tiny"})

    assert (asked.batch_size, asked.model) == ((1, 2), ("tiny",))
    assert notes == [
        f"--{name}: values that stand twice are measured once" for name in ("batch-size", "model")
    ]


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_word_of_a_vocabulary_is_taken(name):
    asked, _, _ = parse_sweep({name: ",".join(VOCABULARY[name])})

    assert getattr(asked, name) == tuple(VOCABULARY[name])


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_default_is_a_word_of_its_vocabulary(name):
    assert set(Sweep.model_fields[name].default) <= set(VOCABULARY[name])


def test_passes_are_put_in_their_order():
    _, plan, _ = parse_sweep({"passes": ",".join(reversed(PASSES))})

    assert plan.passes == PASSES


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2.0), ("0.5", 0.5), (".5", 0.5), ("1e2", 100.0), ("+3.", 3.0)]
)
def test_seconds_are_read_from_text(text, seconds):
    assert parse_sweep({"warmup_s": text})[1].warmup_s == seconds


# Bad values, from flags or TOML

LONG = "9" * 10_000_000
BAD_VALUES = {
    "zero": ("batch_size", "0", "--batch-size must be between 1 and 1000000, got 0."),
    "negative": ("batch_size", "-1", "--batch-size must be whole numbers .*, got '-1'."),
    "empty value": ("batch_size", "1,2,,4", "--batch-size has an empty value: '1,2,,4'."),
    "nothing": ("batch_size", "", "--batch-size has an empty value: ''."),
    "exponent": ("batch_size", "1e3", "--batch-size must be whole numbers .*, got '1e3'."),
    "19 digits": ("batch_size", "9999999999999999999", "--batch-size must be .*, got '9+'."),
    "over the limit": ("batch_size", "1000001", "between 1 and 1000000, got 1000001."),
    "full-width": ("batch_size", "\uff11", r"whole numbers .*, got '\\uff11'."),
    "descending": ("batch_size", "8..1", "--batch-size: a range must ascend, got '8..1'."),
    "from zero": ("batch_size", "0..8", "--batch-size must be between 1 and .*, got 0."),
    "open range": ("batch_size", "1..", "--batch-size must be whole numbers .*, got '1..'."),
    "long number": ("batch_size", LONG, r"--batch-size must be .*, got '9+\.\.\.\."),
    "many values": ("batch_size", "1," * 99_999 + "1", f"at most {MAX_VALUES} .* got 100000."),
    "fraction": ("batch_size", 1.5, "--batch-size must be whole numbers .*, got 1.5."),
    "round fraction": ("batch_size", 2.0, "--batch-size must be whole numbers .*, got 2.0."),
    "boolean size": ("batch_size", True, "--batch-size must be whole numbers .*, got True."),
    "table": ("batch_size", {"a": 1}, "--batch-size must be whole numbers .*, got {'a': 1}."),
    "list in list": ("batch_size", [[1]], r"--batch-size must be whole numbers .*, got \[1\]."),
    "hexadecimal": ("batch_size", 16**9000, "--batch-size must be .*, got a number too long"),
    "no value": ("batch_size", [], "--batch-size: must name at least one value"),
    "no patch": ("image_size", "8", "--image-size must be between 16 and 65536 and a multiple"),
    "odd size": ("image_size", "1000", "a multiple of 16, got 1000."),
    "model": ("model", "vit_x", "Unknown model 'vit_x'. Did you mean 'vit_b'?"),
    "upper case": ("model", "VIT_B", "Unknown model 'VIT_B'. .*vit_b"),
    "far from all": ("model", "zzzzz", f"Unknown model 'zzzzz'. Known: {', '.join(MODELS)}."),
    "model number": ("model", 3, "--model must be words, got 3."),
    "precision": ("precision", "fp8", "Unknown precision 'fp8'. Did you mean 'fp32'?"),
    "attention": ("attention", "spda", "Unknown attention 'spda'. Did you mean 'sdpa'?"),
    "execution": ("execution", "compiled", "Unknown execution .* Did you mean 'compile'?"),
    "input": ("input", "image", "Unknown input 'image'. Did you mean 'images'?"),
    "newline": ("model", "vit\n_b", r"--model must be words, got 'vit\\n_b'."),
    "NUL": ("weights", "a\0b", r"--weights must be words, got 'a\\x00b'."),
    "escape": ("weights", "\x1b[31m", r"--weights must be words, got '\\x1b\[31m'."),
    "long name": ("model", "vit" * 10**6, r"Unknown model 'vit.*\.\.\.\."),
    "negative device": ("device", "cuda:-1", "--device must be .*, got 'cuda:-1'."),
    "other device": ("device", "mps", "--device must be auto, cpu, cuda or cuda:N, got 'mps'."),
    "full-width device": ("device", "cuda:\uff11", "--device must be .*, got "),
    "pass": ("passes", "latencies", "Unknown pass 'latencies'. Did you mean 'latency'?"),
    "no pass": ("passes", [], "--passes must be some of .*, got "),
    "pass number": ("passes", 3, "--passes must be some of .*, got 3."),
    "word for seconds": ("warmup_s", "soon", "--warmup-s must be a number, got 'soon'."),
    "NaN text": ("warmup_s", "nan", "--warmup-s must be a number, got 'nan'."),
    "infinite text": ("case_timeout_s", "inf", "--case-timeout-s must be a number, got 'inf'."),
    "overflow": ("case_timeout_s", "1e999", "--case-timeout-s: must be less .*, got inf."),
    "NaN": ("warmup_s", float("nan"), "--warmup-s: must be .*, got nan."),
    "infinity": ("warmup_s", float("inf"), "--warmup-s: must be less than .*, got inf."),
    "negative seconds": ("min_timed_s", "-1", "--min-timed-s: must be greater .*, got -1.0."),
    "zero timeout": ("case_timeout_s", "0", "--case-timeout-s: must be greater than 0, got 0.0."),
    "zero forwards": ("max_forwards", "0", "--max-forwards: must be greater .*, got 0."),
    "NaN interval": ("target_interval", float("nan"), "--target-interval: must be .*, got nan."),
    "percentage": ("target_interval", "3%", "--target-interval must be a number, got '3%'."),
    "fraction of one": ("min_forwards", "2.5", "--min-forwards must be a whole number, got '2.5'."),
    "fraction in TOML": ("min_forwards", 2.5, "--min-forwards: must be a valid integer, .*2.5."),
    "boolean": ("warmup_forwards", True, "--warmup-forwards must be a number, got True."),
    "long seed": ("seed", 16**9000, "--seed: must be .*, got a number too long to show."),
    "seed": ("seed", "65536", "--seed: must be less than 65536, got 65536."),
    "images number": ("images", 3, "--images must be words, got 3."),
    "images escape": ("images", "\x1b]0;", r"--images must be words, got '\\x1b\]0;'."),
    "no images": ("images", "", "--images must be words, got ''."),
    "unknown": ("batchsize", "1", "Unknown setting 'batchsize'. Did you mean 'batch_size'?"),
    "unknown, long": ("x\n" * 10**6, "1", r"Unknown setting 'x\\nx\\n.*\.\.\.\. Known: model, "),
}


@pytest.mark.parametrize(("name", "value", "line"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_value_is_refused_in_one_line_with_what_came(name, value, line):
    assert re.search(line, refusal(parse_sweep, {name: value}))


def test_the_first_of_equally_close_names_is_suggested():
    assert suggestion("vit_x", MODELS) == " Did you mean 'vit_b'?"


# Sweep files


def test_a_file_sets_what_flags_set(config):
    settings = config('model = "tiny"\nbatch_size = [1, 2]\nwarmup_s = 1\npasses = ["latency"]')
    flags = {"model": "tiny", "batch_size": "1,2", "warmup_s": "1", "passes": "latency"}

    assert parse_sweep(settings) == parse_sweep(flags)


def test_a_byte_order_mark_is_let_pass(config):
    assert config(b'\xef\xbb\xbfmodel = "tiny"') == {"model": "tiny"}


BAD_FILES = {
    "empty": ("", "sets nothing: write, say, model ="),
    "only comments": ("# model = 'tiny'\n\n", "sets nothing"),
    "duplicate key": ("seed = 1\nseed = 2", "is not valid TOML: Cannot overwrite a value"),
    "UTF-16": ('model = "tiny"'.encode("utf-16"), "must be UTF-8 text"),
    "UTF-16, no mark": ('model = "tiny"'.encode("utf-16-le"), "is not valid TOML"),
    "latin-1": ('model = "é"'.encode("latin-1"), "must be UTF-8 text"),
    "zeros": (bytes(100), "is not valid TOML"),
    "JSON": ('{"model": "tiny"}', "is not valid TOML"),
    "no value": ("model =", "is not valid TOML"),
    "deep": ("a = " + "[" * 100_000, "is not valid TOML"),
    "5,000 digits": ("seed = " + "9" * 5000, "is not valid TOML: Exceeds the limit"),
    "long table twice": (f"[{'a' * 10**5}]\n" * 2, "is not valid TOML: Cannot declare"),
    "too large": ("#" * (MAX_CONFIG_BYTES + 1), f"at most {MAX_CONFIG_BYTES} bytes; .* has "),
}


@pytest.mark.parametrize(("content", "line"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_with_the_reason(config, content, line):
    assert re.search(line, refusal(config, content))


BAD_SETTINGS = {
    "unknown key": ("modle = 'tiny'", "Unknown setting 'modle'. Did you mean 'model'?"),
    "table": ("[sweep]\nmodel = 'tiny'", "Unknown setting 'sweep'."),
    "model = 3": ("model = 3", "--model must be words, got 3."),
    "fraction": ("batch_size = 1.5", "--batch-size must be whole numbers .*, got 1.5."),
    "true": ("batch_size = true", "--batch-size must be whole numbers .*, got True."),
    "nan": ("warmup_s = nan", "--warmup-s: must be .*, got nan."),
    "inf": ("max_timed_s = inf", "--max-timed-s: must be .*, got inf."),
    "-inf": ("max_timed_s = -inf", "--max-timed-s: must be .*, got -inf."),
    "date": ("warmup_s = 2025-01-02", "--warmup-s: must be a valid number, got datetime.date"),
    "hexadecimal": (f"batch_size = 0x{'f' * 9000}", "got a number too long to show."),
}


@pytest.mark.parametrize(("content", "line"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_bad_setting_of_a_file_is_refused_as_a_flag_is(config, content, line):
    assert re.search(line, refusal(parse_sweep, config(content)))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / "sweep.toml")

    assert "must name a TOML file" in refusal(read_config, tmp_path / "sweep.toml")


@pytest.mark.parametrize("name", ["missing.toml", "n" * 250 + ".toml" * 2])
def test_a_file_that_is_not_there_is_refused(tmp_path, name):
    line = refusal(read_config, tmp_path.relative_to(tmp_path) / name)

    assert "must name a TOML file" in line or "can't be read: File name too long" in line


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
    families = [case.family() for case in asked.cases(environment)]

    assert len(list(itertools.groupby(families))) == len(set(families)) == 4


@pytest.mark.parametrize("name", AXES)
def test_every_axis_tells_cases_apart(make_case, name):
    other = {"batch_size": 3, "image_size": 80}.get(name, "other")

    assert make_case(**{name: other}).case_id != make_case().case_id


def test_too_many_cases_are_refused_with_their_count(environment):
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


def test_a_device_by_two_names_is_measured_once(make_gpu_environment):
    cases = Sweep(device=("auto", "cuda", "cuda:0")).cases(make_gpu_environment("9.0"))

    assert len(cases) == len(Sweep().batch_size)


@pytest.mark.parametrize(
    ("gpus", "have"), [([], "are: none."), (["9.0", "9.0"], "are: cuda:0 a GPU, cuda:1 a GPU.")]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    make_gpu_environment, gpus, have
):
    line = refusal(Sweep(device=("cuda:99",)).cases, make_gpu_environment(*gpus))

    assert line.startswith("There is no device cuda:99")
    assert have in line


def test_a_sweep_of_which_nothing_can_run_is_refused_with_the_reason(make_gpu_environment):
    line = refusal(Sweep(precision=("bf16",)).cases, make_gpu_environment("7.5"))

    assert line.startswith("Nothing of this sweep can run: bf16 needs compute capability 8.0")


def test_a_precision_that_the_device_lacks_is_kept_beside_one_that_it_has(environment):
    cases = Sweep(precision=("fp32", "tf32"), batch_size=(1,)).cases(environment)
    reasons = [unsupported_reason(case, environment) for case in cases]

    assert reasons == [None, "tf32 needs a CUDA GPU; a CPU has none of it"]


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


def test_a_file_for_several_models_is_refused(tmp_path, environment):
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
def test_missing_weights_come_with_the_command_that_fetches_them(tmp_path, model):
    line = refusal(checkpoint_path, str(tmp_path / "missing.pth"), model)

    assert f"Fetch them with: sam-bench download {model}, or use --weights random." in line


def test_missing_weights_of_a_model_without_official_ones_advise_no_download(tmp_path):
    line = refusal(checkpoint_path, str(tmp_path / "missing.pth"), "tiny")

    assert line.endswith("missing.pth'. Use --weights random.")


def test_a_folder_lacks_a_model_that_has_no_official_file(tmp_path):
    assert "no official checkpoint of tiny" in refusal(checkpoint_path, str(tmp_path), "tiny")


def test_a_name_too_long_for_a_file_is_refused():
    assert "can't be read: File name too long" in refusal(check_weights, "n" * 5000, ["tiny"])


def test_a_quoted_value_is_one_short_line_of_ascii():
    quoted = sweep_file.quoted("é\n\x1b" * 10**5)

    assert quoted == "'" + "\\xe9\\n\\x1b" * 5 + "\\xe9\\n..."
