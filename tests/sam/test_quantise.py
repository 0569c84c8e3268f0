"""Linear layers in eight bits: each number within half a step, each product within its bound."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sam.families import MODELS
from sam.quantise import EIGHT_BITS, EightBitLinear, quantise_linears
from sam.sam1.build import allocate_sam
from sam.sam1.family import EIGHT_BIT_LAYERS
from sam.sam1.registry import build_sam_model

WIDE, NARROW = 48, 20  # channels in and out
# Powers of ten, nearly as small and as large as bfloat16 has them, and beyond float16.
SIZES = (-37, -30, -6, 0, 6, 30, 33)
ONE_ROUNDING = 2.0**-8  # of bfloat16, relative
SUM = 1e-5  # of float32's roundings in a sum, of the sum of the summands' sizes
SHAPES = {
    "one token": (1, WIDE), "an odd number": (7, WIDE), "a grid": (2, 3, 5, WIDE),
    "none": (0, WIDE), "windows of none": (0, 3, 3, WIDE),
}  # fmt: skip


@pytest.fixture(params=EIGHT_BITS)
def name(request):
    return request.param


@pytest.fixture
def bits(name):
    return EIGHT_BITS[name]


@pytest.fixture
def linear():
    """Whose weights' rows differ a hundredfold in size, one of which is zero."""
    torch.manual_seed(1)
    layer = nn.Linear(WIDE, NARROW)
    with torch.no_grad():
        layer.weight *= torch.logspace(-1, 1, NARROW)[:, None]
        layer.weight[3] = 0
        layer.bias.copy_(layer.bias.bfloat16())
    return layer.requires_grad_(False)


@pytest.fixture
def layer(name, linear):
    """The same in eight bits, and its bias in bfloat16, as a precision leaves it."""
    found = EightBitLinear(linear, name)
    found.bias.data = found.bias.data.bfloat16()
    return found


def random_rows(count=64, size=0):
    """Rows whose largest numbers lie around 10 ** size, and differ a hundredfold."""
    rows = torch.randn(count, WIDE, generator=torch.Generator().manual_seed(0))
    return rows * torch.logspace(-1 + size, 1 + size, count)[:, None]


def half_step(bits, rows, scale):
    """The most that rounding to the nearest may change numbers by, in float64."""
    if not bits.dtype.is_floating_point:
        return scale.double() / 2
    smallest = torch.finfo(bits.dtype).smallest_normal  # below it steps stay as they are
    exponent = (rows.double() / scale).abs().clamp_min(smallest).log2().floor()
    return scale.double() * torch.finfo(bits.dtype).eps * 2**exponent / 2


# Numbers


@pytest.mark.parametrize("size", SIZES)
def test_a_number_of_eight_bits_is_within_half_a_step_of_its_own(bits, size):
    rows = random_rows(size=size)
    numbers, scale = bits.quantise(rows)
    error = (numbers.double() * scale - rows.double()).abs()

    assert (error <= half_step(bits, rows, scale) * (1 + 1e-4)).all()


def test_numbers_are_of_the_format_and_scales_are_float32(bits):
    numbers, scale = bits.quantise(random_rows().bfloat16())

    assert (numbers.dtype, scale.dtype) == (bits.dtype, torch.float32)
    assert (numbers.shape, scale.shape) == ((64, WIDE), (64, 1))


@pytest.mark.parametrize("size", [-6, 0, 6, 33])
def test_a_rows_largest_number_is_the_formats_largest(bits, size):
    numbers, _ = bits.quantise(random_rows(size=size))

    assert set(numbers.float().abs().amax(-1).tolist()) == {bits.largest}


def test_the_largest_is_what_the_format_can_hold(bits):
    info = torch.finfo if bits.dtype.is_floating_point else torch.iinfo

    assert bits.largest == info(bits.dtype).max


def test_the_largest_of_either_sign_is_kept_whole(bits):
    numbers, scale = bits.quantise(torch.tensor([[1.0, -3.0], [5.0, -5.0]]))

    assert (numbers.float() * scale).amin(-1).tolist() == pytest.approx([-3.0, -5.0])


def test_each_row_has_the_scale_that_it_has_alone(bits):
    rows = random_rows()
    numbers, scale = bits.quantise(rows)
    alone = [bits.quantise(row[None]) for row in rows]

    assert torch.equal(numbers.float(), torch.cat([each.float() for each, _ in alone]))
    assert torch.equal(scale, torch.cat([each for _, each in alone]))


def test_a_row_of_zeros_stays_zero(bits):
    numbers, scale = bits.quantise(torch.zeros(2, WIDE))

    assert not numbers.float().any()
    assert (scale > 0).all()


# Products


def test_a_product_is_within_what_half_steps_of_both_factors_allow(bits, linear, layer):
    tokens = random_rows().bfloat16()
    found = layer(tokens).double()
    rows, weight = tokens.double(), linear.weight.double()
    expected = rows @ weight.T + linear.bias.double()
    of_rows = half_step(bits, rows, bits.quantise(tokens)[1])
    of_weight = half_step(bits, weight, layer.weight_scale)
    wider = (rows.abs() + of_rows) @ (weight.abs() + of_weight).T
    bound = wider - rows.abs() @ weight.abs().T
    rounding = SUM * wider + ONE_ROUNDING * (expected.abs() + bound)

    assert ((found - expected).abs() <= bound * (1 + 1e-4) + rounding).all()


def test_a_product_of_numbers_of_eight_bits_is_exact_but_for_roundings(bits, layer):
    rows, scale = bits.quantise(random_rows())
    weight, weight_scale = layer.weight, layer.weight_scale
    found = bits.multiply(rows, scale, weight, weight_scale, layer.bias)
    tokens, weights = rows.double() * scale, weight.double() * weight_scale
    expected = tokens @ weights.T + layer.bias.double()
    most = ONE_ROUNDING * expected.abs() + SUM * (tokens.abs() @ weights.abs().T)

    assert found.dtype == layer.bias.dtype
    assert ((found.double() - expected).abs() <= most).all()


def test_a_product_without_scales_is_that_of_the_numbers(bits):
    rows, weight = (bits.quantise(random_rows(count))[0] for count in (64, 32))
    expected = rows.double() @ weight.double().T
    found = bits.product(rows, weight).double()
    most = ONE_ROUNDING * expected.abs() + SUM * (rows.double().abs() @ weight.double().abs().T)

    assert ((found - expected).abs() <= most).all()


def test_tokens_of_zeros_give_exactly_the_bias(layer):
    assert torch.equal(layer(torch.zeros(5, WIDE).bfloat16()), layer.bias.expand(5, NARROW))


def test_a_channel_whose_weights_are_zero_is_exactly_its_bias(layer):
    assert (layer(random_rows().bfloat16())[:, 3] == layer.bias[3]).all()


@pytest.mark.parametrize("size", SIZES)
def test_tokens_of_any_size_give_finite_outputs(layer, size):
    assert layer(random_rows(size=size).bfloat16()).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_token_that_is_not_finite_is_not_hidden_and_stays_its_own_rows(layer, value):
    tokens = random_rows().bfloat16()
    expected = layer(tokens)
    tokens[5, 7] = value
    found = layer(tokens)
    others = [row for row in range(len(tokens)) if row != 5]

    assert not found[5, [0, *range(4, NARROW)]].isfinite().any()
    assert torch.equal(found[others], expected[others])


def test_a_tokens_output_is_the_same_in_any_batch(layer):
    tokens = random_rows().bfloat16()
    whole = layer(tokens)

    for count in (1, 2, 17, 63):
        assert torch.equal(layer(tokens[:count]), whole[:count])
    assert torch.equal(layer(tokens[9:10]), whole[9:10])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_tokens_keep_their_shape_and_have_the_biases_type(layer, shape):
    found = layer(torch.randn(shape).bfloat16())

    assert found.shape == (*shape[:-1], NARROW)
    assert found.dtype == layer.bias.dtype


def test_tokens_in_a_grid_have_the_outputs_that_they_have_in_a_row(layer):
    tokens = random_rows(30).bfloat16()

    assert torch.equal(layer(tokens.view(2, 3, 5, WIDE)).flatten(0, 2), layer(tokens))


@pytest.mark.parametrize(
    "spread",
    [
        lambda tokens: tokens.t().contiguous().t(),
        lambda tokens: tokens.repeat_interleave(2, 0)[::2],
        lambda tokens: torch.cat([tokens, tokens], -1)[:, :WIDE],
    ],
    ids=["by columns", "every other row", "parts of rows"],
)
def test_where_tokens_lie_in_memory_changes_nothing(layer, spread):
    tokens = random_rows().bfloat16()
    spread_out = spread(tokens)

    assert torch.equal(layer(spread_out), layer(tokens))
    assert not spread_out.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_bias_of_another_type_gives_outputs_of_it(layer, dtype):
    layer.bias.data = layer.bias.data.to(dtype)

    assert layer(random_rows().to(dtype)).dtype == dtype


def test_a_compiled_layer_is_one_graph_and_gives_the_same(layer):
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager")
    tokens = random_rows(30).bfloat16().view(2, 3, 5, WIDE)
    with torch.inference_mode():
        assert torch.equal(compiled(tokens), layer(tokens))


# A layer's state


def test_a_layer_in_eight_bits_has_the_parameters_of_the_linear_layer(layer, linear):
    ours, theirs = (
        {name: weight.shape for name, weight in each.named_parameters()} for each in (layer, linear)
    )

    assert ours == theirs


def test_its_weights_take_a_byte_each_and_a_scale_by_row(bits, layer):
    assert (layer.weight.dtype, layer.weight.nbytes) == (bits.dtype, WIDE * NARROW)
    assert (layer.weight_scale.dtype, layer.weight_scale.nbytes) == (torch.float32, 4 * NARROW)


def test_its_state_is_restored(name, linear, layer):
    other = EightBitLinear(nn.Linear(WIDE, NARROW), name)
    other.bias.data = other.bias.data.bfloat16()
    other.load_state_dict(layer.state_dict())
    tokens = random_rows().bfloat16()

    assert torch.equal(other(tokens), layer(tokens))


def test_the_linear_layer_keeps_its_weights(name, linear):
    before = linear.weight.clone()
    EightBitLinear(linear, name)

    assert torch.equal(linear.weight, before)


# An encoder


def test_the_layers_of_the_format_alone_are_in_eight_bits(name, bits):
    encoder = build_sam_model("tiny", image_size=64).image_encoder
    linears = {each for each, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    quantise_linears(encoder, name, EIGHT_BIT_LAYERS[name])
    left = {each for each, module in encoder.named_modules() if isinstance(module, nn.Linear)}

    assert linears - left == {
        f"blocks.{i}.{each}" for i in range(4) for each in EIGHT_BIT_LAYERS[name]
    }
    assert {each.rpartition(".")[2] for each in left} >= {"proj"}


@pytest.mark.parametrize("model", ["tiny", "vit_b"])
def test_torch_counts_the_flops_that_it_counts_in_bfloat16(name, model):
    def counted(is_quantised):
        encoder = allocate_sam(MODELS[model].config, 1024, "sdpa", "meta").image_encoder
        if is_quantised:
            quantise_linears(encoder, name, EIGHT_BIT_LAYERS[name])
        for weight in (*encoder.parameters(), *encoder.buffers()):
            if weight.is_floating_point() and weight.element_size() > 1:
                weight.data = weight.data.bfloat16()
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(2, 3, 1024, 1024, device="meta", dtype=torch.bfloat16))
        return counter.get_total_flops()

    assert counted(True) == counted(False) > 0
