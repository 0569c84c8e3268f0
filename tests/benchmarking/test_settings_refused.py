"""Bad flags and sweep files: each is refused in one line that says what must hold and what came."""

from __future__ import annotations

import os
import re

import pytest

from benchmarking.choices.settings import MAX_CONFIG_BYTES, parse_sweep, read_config
from benchmarking.choices.sweep import MAX_VALUES
from sam.families import MODELS


@pytest.fixture
def config(tmp_path):
    """Read a sweep file with this content, text or bytes."""

    def read(content):
        path = tmp_path / "sweep.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_config(path)

    return read


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
    "no patch": ("image_size", "8", "--image-size must be between 16 and 65536, got 8."),
    "model": ("model", "vit_x", "Unknown model 'vit_x'. Did you mean 'vit_b'?"),
    "upper case": ("model", "VIT_B", "Unknown model 'VIT_B'. .*vit_b"),
    "far from all": ("model", "zzzzz", f"Unknown model 'zzzzz'. Known: {', '.join(MODELS)}."),
    "model number": ("model", 3, "--model must be words, got 3."),
    "precision": ("precision", "fp33", "Unknown precision 'fp33'. Did you mean 'fp32'?"),
    "attention": ("attention", "spda", "Unknown attention 'spda'. Did you mean 'sdpa'?"),
    "attention of globals": ("attention", "fold+spda", "Unknown attention 'fold.spda'"),
    "three attentions": ("attention", "fold+fold+fold", "Unknown attention 'fold.fold.fold'"),
    "half an attention": ("attention", "fold+", "Unknown attention 'fold.'"),
    "execution": ("execution", "compiled", "Unknown execution .* Did you mean 'compile'?"),
    "input": ("input", "image", "Unknown input 'image'. Did you mean 'images'?"),
    "newline": ("model", "vit\n_b", r"--model must be words, got 'vit\\n_b'."),
    "NUL": ("weights", "a\0b", r"--weights must be words, got 'a\\x00b'."),
    "escape": ("weights", "\x1b[31m", r"--weights must be words, got '\\x1b\[31m'."),
    "long name": ("model", "vit" * 10**6, r"Unknown model 'vit.*\.\.\.\."),
    "negative device": ("device", "cuda:-1", "--device must be .*, got 'cuda:-1'."),
    "other device": ("device", "mps", "--device must be auto, cpu, cuda or cuda:N, got 'mps'."),
    "full-width device": ("device", "cuda:\uff11", "--device must be .*, got "),
    "kind": ("gpu", "L4;H200", "--gpu must be kinds of GPU such as L4,.*, got 'L4;H200'."),
    "kind escape": ("gpu", "\x1b[31m", r"--gpu must be words, got '\\x1b\[31m'."),
    "kind newline": ("gpu", ["L4\n"], r"--gpu must be words, got 'L4\\n'."),
    "kind NUL": ("gpu", "L4\0", r"--gpu must be words, got 'L4\\x00'."),
    "full-width kind": ("gpu", "L\uff14", r"--gpu must be kinds .*, got 'L\\uff14'."),
    "kind option": ("gpu", "--gpu", "--gpu must be kinds of GPU .*, got '--gpu'."),
    "kind, long": ("gpu", "L" * 10**6, r"--gpu must be kinds .*, got 'L+\.\.\.\."),
    "kind number": ("gpu", 4, "--gpu must be words, got 4."),
    "kind boolean": ("gpu", [True], "--gpu must be words, got True."),
    "empty kind": ("gpu", "L4,,H200", "--gpu has an empty value: 'L4,,H200'."),
    "no kinds": ("gpu", [], "--gpu: must name at least one value"),
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
    "no path": ("encoder", "vit_b", "--encoder must be package.module:function, got 'vit_b'. The"),
    "no function": ("encoder", "a.b", "--encoder must be package.module:function, got 'a.b'."),
    "path of a file": ("encoder", "a/b.py:f", "--encoder must be package.module:function, got"),
    "leading dot": ("encoder", ".a:f", "--encoder must be package.module:function, got '.a:f'."),
    "call": ("encoder", "a:f()", r"--encoder must be package.module:function, got 'a:f\(\)'."),
    "full-width path": ("encoder", "\uff41:f", r"--encoder must be .*, got '\\uff41:f'."),
    "encoder number": ("encoder", 3, "--encoder must be package.module:function, got 3."),
    "encoder list": ("encoder", [["a:f"]], r"--encoder must be .*, got \['a:f'\]."),
    "no encoder": ("encoder", "", "--encoder has an empty value: ''."),
    "no encoders": ("encoder", [], "--encoder must name at least one value."),
    "encoder as model": ("model", "a.b:f:g", "Unknown model 'a.b:f:g'."),
    "encodr": ("encodr", "a:f", "Unknown setting 'encodr'. Did you mean 'encoder'?"),
    "open bracket": ("module_pattern", "blocks(", r"--module-pattern must be .*, got 'blocks\('"),
    "pattern of nothing": ("module_pattern", "*", r"--module-pattern must be .*, got '\*'"),
    "pattern number": (
        "module_pattern",
        3,
        "--module-pattern must be a regular expression, got 3: it is empty or no text.",
    ),
    "images number": ("images", 3, "--images must be words, got 3."),
    "images escape": ("images", "\x1b]0;", r"--images must be words, got '\\x1b\]0;'."),
    "no images": ("images", "", "--images must be words, got ''."),
    "prompt": ("prompts", "point", "--prompts must be points or boxes, got 'point'. Did .*points"),
    "no prompt": ("prompts", "", "--prompts must be points or boxes, got ''. Known: points, boxes"),
    "prompts number": ("prompts", 3, "--prompts must be points or boxes, got 3."),
    "prompts list": ("prompts", ["points"], r"--prompts must be .*, got \['points'\]."),
    "prompts, 10,000 digits": ("prompts", 16**9000, "--prompts must be .*too long to show"),
    "pass, 10,000 digits": ("passes", [16**9000], "Unknown pass a number too long to show."),
    "no prompts": ("prompts_per_image", "0", "--prompts-per-image: must be greater .*, got 0."),
    "prompts, exponent": ("prompts_per_image", "1e3", "must be a whole number, got '1e3'."),
    "many prompts": ("prompts_per_image", "100001", "must be less .* 100000, got 100001."),
    "no points": ("points_per_side", "0", "--points-per-side: must be greater .*, got 0."),
    "negative points": ("points_per_side", "-1", "must be a whole number, got '-1'."),
    "million points": ("points_per_side", "1001", "must be less .* 1000, got 1001."),
    "unknown": ("batchsize", "1", "Unknown setting 'batchsize'. Did you mean 'batch_size'?"),
    "unknown, long": ("x\n" * 10**6, "1", r"Unknown setting 'x\\nx\\n.*\.\.\.\. Known: model, "),
}


@pytest.mark.parametrize(("name", "value", "line"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_value_is_refused_in_one_line_with_what_came(name, value, line, refusal):
    assert re.search(line, refusal(parse_sweep, {name: value}))


# Sweep files


FILES = {
    "values": (
        'model = "tiny"\nbatch_size = [1, 2]\nwarmup_s = 1\npasses = ["latency"]',
        {"model": "tiny", "batch_size": "1,2", "warmup_s": "1", "passes": "latency"},
    ),
    "encoders": (
        'model = ["tiny"]\nencoder = ["a.b:f", "c:g"]',
        {"model": "tiny", "encoder": "a.b:f,c:g"},
    ),
}


@pytest.mark.parametrize(("content", "flags"), FILES.values(), ids=FILES)
def test_a_file_sets_what_flags_set(config, content, flags):
    assert parse_sweep(config(content)) == parse_sweep(flags)


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
def test_a_bad_file_is_refused_in_one_line_with_the_reason(config, content, line, refusal):
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
def test_a_bad_setting_of_a_file_is_refused_as_a_flag_is(config, content, line, refusal):
    assert re.search(line, refusal(parse_sweep, config(content)))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make, refusal):
    make(tmp_path / "sweep.toml")

    assert "must name a TOML file" in refusal(read_config, tmp_path / "sweep.toml")


@pytest.mark.parametrize("name", ["missing.toml", "n" * 250 + ".toml" * 2])
def test_a_file_that_is_not_there_is_refused(tmp_path, name, refusal):
    line = refusal(read_config, tmp_path.relative_to(tmp_path) / name)

    assert "must name a TOML file" in line or "can't be read: File name too long" in line
