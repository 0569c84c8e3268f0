"""Facts: what is the same at every run of the same code, counted and computed on any machine."""

from __future__ import annotations

import json
import sys
from functools import partial

import pytest
import segment_anything.modeling as upstream
import torch
from torch import nn

from benchmarking.choices.precision import PRECISIONS, without_tf32
from benchmarking.measuring import count_facts as facts
from benchmarking.measuring import encoders
from benchmarking.measuring.count_facts import count_breaks, count_facts, facts_of, output_sums
from benchmarking.measuring.encoders import load_encoder
from benchmarking.measuring.work import known_work
from results.records.case import OWN
from results.records.measurement import ENCODER
from results.verdicts.facts import Facts
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.sam1.build import fill_random

SIZE = 128  # pixels
OTHERS = [name for name in PRECISIONS if name != "fp32"]
EIGHT_BIT = [name for name, precision in PRECISIONS.items() if precision.eight_bits is not None]
FUSED = "aten.scaled_dot_product_attention.default"
SOFTMAX = "aten.softmax.int"
OWN_FILE = """
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.Conv2d(8, 4, 1))


def make_sized(image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 2))


class Unwilling(nn.Conv2d):
    def forward(self, images):
        if not torch.is_inference_mode_enabled():
            raise RuntimeError("only in inference mode")
        return super().forward(images)


def make_unwilling():
    return Unwilling(3, 4, 16, 16)
"""


def no_break(images):
    return images + 1


def one_break(images):
    images = images + 1
    torch._dynamo.graph_break()
    return images + 1


def two_breaks(images):
    images = one_break(images)
    torch._dynamo.graph_break()
    return images + 1


def break_in_a_loop(images):
    for _ in range(2):
        torch._dynamo.graph_break()
        images = images + 1
    return images


class Runs(nn.Module):
    """An encoder of this function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


@pytest.fixture(scope="module", autouse=True)
def tf32_as_it_was():
    """What apply_precision sets for the whole process."""
    with without_tf32():
        yield


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    """Outputs are kept for the next variant, which here may have other weights."""
    output_sums.cache_clear()


@pytest.fixture(scope="module")
def tiny(make_case):
    """Maker of cases of the tiny model."""
    return partial(make_case, image_size=SIZE, batch_size=1)


@pytest.fixture(scope="module")
def found(tiny):
    """Facts of the tiny model by attention and precision, counted once."""
    asked = (*((name, "fp32") for name in ATTENTION), *(("sdpa", name) for name in OTHERS))
    return {each: facts_of(tiny(attention=each[0], precision=each[1])) for each in asked}


@pytest.fixture(scope="module")
def own_encoder(tmp_path_factory, make_case):
    """Maker of cases of encoders of OWN_FILE, by the function's name."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "encoders_with_facts.py").write_text(OWN_FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        yield lambda name: make_case(
            model=f"encoders_with_facts:{name}", attention=OWN, weights=OWN, image_size=32
        )
    sys.modules.pop("encoders_with_facts", None)


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_parameters_are_those_of_upstreams_encoder(found, attention):
    config = MODELS["tiny"].config
    encoder = upstream.ImageEncoderViT(
        img_size=SIZE, embed_dim=config.embed_dim, depth=config.depth,
        num_heads=config.num_heads, norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True, window_size=14, global_attn_indexes=config.global_blocks,
    )  # fmt: skip
    parameters = sum(each.numel() for each in encoder.parameters())

    assert found[attention, "fp32"].parameters == parameters
    assert found[attention, "fp32"].weights_bytes == 4 * parameters


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_flops_are_those_of_one_forward_of_one_image(found, tiny, attention):
    work = known_work(tiny(attention=attention))[ENCODER]
    told = found[attention, "fp32"]

    assert (told.flops, told.least_flops) == (work.flops, work.least_flops)


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_output_has_the_shape_of_an_embedding(found, attention):
    assert found[attention, "fp32"].output_shape == (1, 256, SIZE // 16, SIZE // 16)


def test_sdpa_runs_the_fused_attention_once_a_block(found):
    operations = found["sdpa", "fp32"].operations

    assert operations[FUSED] == MODELS["tiny"].config.depth
    assert SOFTMAX not in operations


def test_reference_runs_a_softmax_once_a_block(found):
    operations = found["reference", "fp32"].operations

    assert operations[SOFTMAX] == MODELS["tiny"].config.depth
    assert FUSED not in operations


@pytest.mark.parametrize("attention", sorted(set(ATTENTION) - {"reference", "triton"}))
def test_the_output_is_the_same_however_attention_is_computed(found, attention):
    expected = found["reference", "fp32"].output

    assert found[attention, "fp32"].output == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_output_of_a_larger_image_is_that_of_the_largest_that_is_run(monkeypatch):
    monkeypatch.setattr(facts, "LARGEST_RUN", 64)

    assert output_sums("tiny", 96, "sdpa") == output_sums("tiny", 64, "sdpa")


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "blocks.3.attn.rel_pos_h"])
def test_the_output_differs_after_one_weight_has_changed(found, monkeypatch, name):
    def fill(model, seed):
        fill_random(model, seed)
        model.image_encoder.get_parameter(name).data.view(-1)[0] += 0.1

    monkeypatch.setattr("sam.sam1.build.fill_random", fill)
    changed = output_sums("tiny", SIZE, "sdpa")

    assert changed != pytest.approx(found["sdpa", "fp32"].output, rel=1e-6, abs=1e-6)


def test_bf16_halves_the_weights_bytes(found):
    half, whole = found["sdpa", "bf16"], found["sdpa", "fp32"]

    assert 2 * half.weights_bytes == whole.weights_bytes
    assert half.parameters == whole.parameters


def test_fp16_halves_the_bytes_of_all_but_what_stays_in_float32(found):
    bf16, fp16, fp32 = (found["sdpa", name].weights_bytes for name in ("bf16", "fp16", "fp32"))

    assert bf16 < fp16 < fp32


@pytest.mark.parametrize("precision", EIGHT_BIT)
def test_eight_bits_are_fewer_bytes_of_as_many_parameters_and_flops(found, precision):
    eight, half = found["sdpa", precision], found["sdpa", "bf16"]

    assert half.weights_bytes / 2 < eight.weights_bytes < half.weights_bytes
    assert (eight.parameters, eight.flops) == (half.parameters, half.flops)


@pytest.mark.parametrize("precision", OTHERS)
def test_the_output_is_of_float64_whatever_the_precision(found, precision):
    assert found["sdpa", precision].output == found["sdpa", "fp32"].output


def test_no_variant_of_ours_breaks_the_graph(found):
    assert {told.graph_breaks for told in found.values()} == {0}


@pytest.mark.parametrize(("function", "count"), [(no_break, 0), (one_break, 1), (two_breaks, 2)])
def test_graph_breaks_of_an_encoder_are_counted(function, count):
    assert count_breaks(Runs(function), torch.zeros(1, 3, 32, 32)) == count


def test_breaks_of_an_encoder_of_which_no_graph_is_made_are_not_counted():
    assert count_breaks(Runs(break_in_a_loop), torch.zeros(1, 3, 32, 32)) is None


def test_facts_that_are_counted_twice_are_equal(found, tiny):
    assert facts_of(tiny(attention="sdpa")) == found["sdpa", "fp32"]


def test_the_batch_size_of_a_case_changes_no_fact(found, tiny):
    assert facts_of(tiny(attention="sdpa", batch_size=4)) == found["sdpa", "fp32"]


# Other encoders


def test_facts_of_another_encoder_are_those_of_its_layers(own_encoder):
    told = facts_of(own_encoder("make"))
    products = 8 * (3 * 16 * 16) * 4 + 4 * 8 * 4  # of a 32 px image, which has four patches

    assert told.parameters == 8 * (3 * 16 * 16) + 8 + 4 * 8 + 4
    assert told.flops == told.least_flops == 2 * products
    assert told.operations == {"aten.conv2d.default": 2}
    assert (told.output_shape, told.graph_breaks) == ((1, 4, 2, 2), 0)


def test_an_encoder_that_takes_a_size_is_given_the_cases(own_encoder):
    assert facts_of(own_encoder("make_sized")).parameters == 2 * 3 * 32**2 + 2


def test_an_encoder_that_torch_can_not_look_through_has_no_count_of_breaks(own_encoder):
    told = facts_of(own_encoder("make_unwilling"))

    assert told.graph_breaks is None
    assert told.operations == {"aten.conv2d.default": 1}


def test_the_output_of_another_encoder_is_that_of_its_own_weights(own_encoder, monkeypatch):
    case = own_encoder("make")
    before = facts_of(case).output
    output_sums.cache_clear()

    def load(*arguments):
        encoder = load_encoder(*arguments)
        encoder[1].bias.data[0] += 0.1
        return encoder

    monkeypatch.setattr(encoders, "load_encoder", load)

    assert facts_of(case).output != pytest.approx(before, rel=1e-6, abs=1e-6)


# Of several cases


def test_cases_that_differ_in_batch_size_alone_are_counted_once(tiny, monkeypatch):
    counted = []
    monkeypatch.setattr(facts, "facts_of", counted.append)
    first, second = tiny(batch_size=1), tiny(batch_size=2)
    told = count_facts([first, second])

    assert told == {"tiny": {"reference 128px fp32": None}}


def test_facts_are_found_by_model_and_variant(own_encoder, tiny, monkeypatch):
    monkeypatch.setattr(facts, "facts_of", lambda case: case)
    cases = [tiny(), tiny(attention="sdpa", precision="bf16"), own_encoder("make")]

    assert count_facts(cases) == {
        "tiny": {"reference 128px fp32": cases[0], "sdpa 128px bf16": cases[1]},
        "encoders_with_facts:make": {"32px fp32": cases[2]},
    }


def test_what_the_process_prints_is_one_line_that_reads_as_facts(own_encoder, monkeypatch, capsys):
    case = own_encoder("make")
    monkeypatch.setattr(sys, "argv", ["facts", json.dumps([case.model_dump()])])
    facts.main()
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)[case.model]["32px fp32"]

    assert Facts.model_validate(told) == facts_of(case)
