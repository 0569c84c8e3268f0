"""Building the model of a case: its weights, precision, execution, clock and meter."""

from __future__ import annotations

import pytest
import torch

from benchmarking.choices.execution import EXECUTIONS
from benchmarking.errors import SweepError
from benchmarking.measuring import rig as rig_file
from benchmarking.measuring.rig import build_rig, time_known_delays
from hooks import ResidentMeter, WallClock
from sam.attention.variants import ATTENTION
from sam.files.checkpoints import CheckpointError
from sam.sam1.registry import build_sam_model


@pytest.fixture
def checkpoint(tmp_path):
    """A file of a tiny model's weights, as a trainer saves them."""
    path = tmp_path / "tiny.pth"
    torch.save({"model": build_sam_model("tiny", image_size=64, seed=9).state_dict()}, path)
    return path


def test_a_seed_gives_equal_weights_in_every_rig(make_case, make_plan):
    first, second = (build_rig(make_case(), make_plan(seed=3)).model for _ in range(2))
    other = second.state_dict()

    assert all(torch.equal(weight, other[name]) for name, weight in first.state_dict().items())


def test_another_seed_gives_other_weights(make_case, make_plan):
    first, second = (build_rig(make_case(), make_plan(seed=seed)).model for seed in (3, 4))

    assert not torch.equal(first.image_encoder.pos_embed, second.image_encoder.pos_embed)


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_attention_gets_the_same_weights(make_case, make_plan, attention):
    rig = build_rig(make_case(attention=attention), make_plan())
    reference = build_sam_model("tiny", image_size=64).state_dict()

    assert list(rig.model.state_dict()) == list(reference)
    assert all(torch.equal(rig.model.state_dict()[name], reference[name]) for name in reference)


def test_what_auto_stands_for_is_noted_and_built(make_case, make_plan):
    rig = build_rig(make_case(attention="auto", precision="bf16"), make_plan())
    blocks = rig.model.image_encoder.blocks

    assert rig.notes == {"attention": "fold in window blocks, tiled in global blocks"}
    assert [block.attn.variant for block in blocks] == [
        ATTENTION["fold" if block.window_size else "tiled"] for block in blocks
    ]


def test_random_weights_name_their_seed(make_case, make_plan):
    rig = build_rig(make_case(), make_plan(seed=3))

    assert (rig.weights, rig.notes) == ("random, seed 3", {})


def test_a_checkpoints_weights_are_loaded_and_named_by_their_hash(make_case, make_plan, checkpoint):
    rig = build_rig(make_case(weights=str(checkpoint)), make_plan())
    expected = build_sam_model("tiny", image_size=64, seed=9)

    assert torch.equal(rig.model.image_encoder.pos_embed, expected.image_encoder.pos_embed)
    assert rig.weights.startswith("sha256:")


def test_what_was_done_to_make_a_checkpoint_fit_is_noted(make_case, make_plan, checkpoint):
    rig = build_rig(make_case(weights=str(checkpoint)), make_plan())

    assert rig.notes == {"weights": "the weights lay under the key 'model'"}


def test_a_broken_checkpoint_is_refused(make_case, make_plan, checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        build_rig(make_case(weights=str(checkpoint)), make_plan())


def test_a_checkpoint_that_is_gone_is_refused(make_case, make_plan, tmp_path):
    with pytest.raises(SweepError, match="There are no weights at"):
        build_rig(make_case(weights=str(tmp_path / "gone.pth")), make_plan())


def test_a_cpu_is_timed_and_metered_by_the_host(make_case, make_plan):
    rig = build_rig(make_case(), make_plan())

    assert isinstance(rig.clock, WallClock)
    assert isinstance(rig.meter, ResidentMeter)


def test_the_encoder_runs_as_the_case_says(make_case, make_plan):
    rig = build_rig(make_case(execution="eager"), make_plan())

    assert rig.encode is EXECUTIONS["eager"].prepare(rig.model.image_encoder, rig.family)


def test_the_model_is_ready_for_inference(make_case, make_plan):
    rig = build_rig(make_case(), make_plan())

    assert not any(module.training for module in rig.model.modules())


# The timer's test


def test_a_clock_is_tried_on_delays_each_twice_the_one_before(make_case, make_plan):
    one, two, four = build_rig(make_case(), make_plan()).timer_test_s

    assert 0.01 <= one < two < four


def test_marks_of_the_timer_s_test_are_given_back(fake_clock, monkeypatch):
    clock = fake_clock()
    monkeypatch.setattr(
        rig_file.time, "sleep", lambda seconds: setattr(clock, "now_s", clock.now_s + 1)
    )

    assert time_known_delays(clock, torch.device("cpu")) == (1, 2, 4)
    assert clock.out == 0


def test_the_least_of_several_tries_is_taken(fake_clock, monkeypatch):
    # A try is seven delays; the first is thrown away, so those of the second are late.
    clock, late = fake_clock(), iter([1.0] * 7 + [9.0] * 7)
    monkeypatch.setattr(
        rig_file.time,
        "sleep",
        lambda seconds: setattr(clock, "now_s", clock.now_s + next(late, 1.0)),
    )

    assert time_known_delays(clock, torch.device("cpu")) == (1, 2, 4)
