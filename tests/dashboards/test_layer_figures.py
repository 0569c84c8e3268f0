"""Layers: which series, against which, how deep, and at which batch size."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from dashboards.figures.layers import series_names
from results.records.measurement import ENCODER, Modules, ModuleTiming

LAYERS = ("layers", "layer_bars")
SDPA = {"gpu": "NVIDIA L4", "model": "vit_b", "precision": "bf16", "attention": "sdpa"}


@pytest.fixture
def modules(frames):
    """Of the sweeps of all axes on one GPU: a series for each model, precision and attention."""
    rows = frames["modules"]
    return rows[(rows["gpu"] == "NVIDIA L4") & (rows["model"] == "vit_b")]


@pytest.fixture
def names(modules):
    """Of the series, in addresses: the plainest, and the one with fused attention."""
    by_label = {label: name for name, label in series_names(modules).items()}
    return by_label["NVIDIA L4 fp32 reference"], by_label["NVIDIA L4 bf16 sdpa"]


def shown_s(rows, batch_size):
    """Seconds of an image, by module."""
    own = rows[rows["batch_size"] == batch_size].set_index("module")
    return own["total_s"] / batch_size


def of(rows, **words):
    return rows[np.logical_and.reduce([rows[axis] == word for axis, word in words.items()])]


def shown_in(figure):
    """What is drawn, and which series it is of; without the note."""
    return json.loads(figure.to_json())["data"], figure.layout.title.text


def names_of(figure):
    """Of the modules of a heat map."""
    return [label.rpartition(" (")[0] for label in figure.data[0].y]


# Series


def test_series_are_named_by_what_tells_them_apart(modules):
    assert sorted(series_names(modules).values()) == [
        "NVIDIA L4 bf16 reference", "NVIDIA L4 bf16 sdpa", "NVIDIA L4 fp16 reference",
        "NVIDIA L4 fp32 reference", "NVIDIA L4 tf32 reference",
    ]  # fmt: skip


def test_series_of_several_sweeps_have_the_sweep_in_their_names_and_the_newest_is_first(frames):
    rows = frames["modules"]
    again = of(rows, gpu="NVIDIA H200", model="vit_b", precision="bf16", attention="sdpa")
    sweeps = sorted(again["sweep_id"].unique(), reverse=True)

    assert len(sweeps) == 5
    assert list(series_names(again).values()) == [f"NVIDIA H200 {sweep_id}" for sweep_id in sweeps]


def test_one_series_alone_has_the_name_of_its_device(modules):
    assert list(series_names(of(modules, **SDPA)).values()) == ["NVIDIA L4"]


def test_a_series_has_the_same_name_in_addresses_whatever_else_is_shown(frames, modules):
    alone, some, every = map(series_names, (of(modules, **SDPA), modules, frames["modules"]))

    assert set(alone) < set(some) < set(every)
    assert len(every) == 53  # of three sweeps of all cases, and of four of two


def test_no_modules_are_no_series(modules):
    assert series_names(modules.head(0)) == {}


@pytest.mark.parametrize("name", LAYERS)
def test_the_series_that_is_asked_for_is_shown(draw, modules, names, name):
    ours = set(of(modules, **SDPA)["record_id"])
    shown = {
        told
        for trace in draw(name, modules, series=names[1]).data
        for told in np.asarray(trace.customdata, dtype=object)[..., 0].ravel()
    }

    assert shown <= ours
    assert shown


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("series", [None, "", "there is no such series"])
def test_without_a_series_of_that_name_the_first_is_shown(draw, modules, name, series):
    first = draw(name, modules, series=next(iter(series_names(modules))))

    assert shown_in(draw(name, modules, series=series)) == shown_in(first)


@pytest.mark.parametrize("name", LAYERS)
def test_a_note_says_that_it_is_not_the_series_that_was_asked_for(draw, modules, name):
    told = draw(name, modules, series="there is no such series").layout.title.subtitle.text

    assert told.startswith("not the series that was asked for")


@pytest.mark.parametrize("name", LAYERS)
def test_the_title_tells_the_series_and_a_note_how_many_there_are(draw, modules, names, name):
    figure = draw(name, modules, series=names[1])

    assert "NVIDIA L4, vit_b 1024px bf16 sdpa eager" in figure.layout.title.text
    sweep_id = modules["sweep_id"].unique().item()
    assert figure.layout.title.subtitle.text == f"sweep {sweep_id}; 1 of 5 series shown"


# The heat map


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_heat_map_has_the_batch_sizes_in_their_order(draw, frames, is_reversed):
    frame = frames["modules"]
    axes = ["sweep_id", "model", "precision", "attention"]
    series = frame[(frame[axes] == frame.iloc[0][axes]).all(axis=1)]
    (heat,) = draw("layers", series.iloc[::-1] if is_reversed else series).data

    assert list(heat.x) == ["1", "4"]  # 32 is out of memory


def test_a_heat_map_has_categories_for_axes(draw):
    layout = draw("layers").layout

    assert (layout.xaxis.type, layout.yaxis.type) == ("category", "category")


def test_a_heat_map_shows_milliseconds_of_an_image(draw, modules):
    rows = of(modules, **SDPA)
    figure = draw("layers", rows)
    (heat,) = figure.data

    for column, size in enumerate(heat.x):
        seconds = shown_s(rows, int(size))[names_of(figure)]
        assert np.array(heat.z)[:, column] == pytest.approx(seconds.to_numpy() * 1e3)


def test_a_batch_size_that_a_module_was_not_measured_at_is_a_gap(draw, modules):
    rows = of(modules, **SDPA)
    figure = draw("layers", rows[(rows["module"] != "neck") | (rows["batch_size"] == 4)])
    row = names_of(figure).index("neck")
    z = np.array(figure.data[0].z, dtype=float)

    assert list(np.isnan(z[row])) == [True, False, True]
    assert np.isnan(z).sum() == 2


def test_against_another_series_a_heat_map_shows_the_change_in_percent(draw, modules, names):
    plain, fused = names
    figure = draw("layers", modules, series=fused, against=plain)
    (heat,) = figure.data
    ours, others = of(modules, **SDPA), of(modules, precision="fp32", attention="reference")

    assert list(heat.x) == ["1", "4", "32"]
    assert set(others["batch_size"]) == {1, 4}
    for column, size in enumerate((1, 4)):
        change = (shown_s(ours, size) / shown_s(others, size) - 1)[names_of(figure)] * 100
        assert np.array(heat.z)[:, column] == pytest.approx(change.to_numpy())
    assert heat.zmid == 0
    assert heat.colorbar.title.text == "%"
    title = figure.layout.title.text
    assert title.endswith("against NVIDIA L4 fp32 reference [% of change]")
    assert "bf16 sdpa" in title


def test_against_itself_nothing_changes(draw, modules, names):
    (heat,) = draw("layers", modules, series=names[0], against=names[0]).data

    assert np.array(heat.z) == pytest.approx(0)


def test_what_the_other_series_was_not_measured_at_is_a_gap(draw, modules, names):
    plain, fused = names
    rows = modules[(modules["precision"] != "fp32") | (modules["batch_size"] == 1)]
    (heat,) = draw("layers", rows, series=fused, against=plain).data
    z = np.array(heat.z, dtype=float)

    assert np.isfinite(z[:, 0]).all()
    assert np.isnan(z[:, 1:]).all()


@pytest.mark.parametrize("against", [None, "", "there is no such series"])
def test_against_no_series_of_that_name_the_times_are_shown(draw, modules, names, against):
    figure = draw("layers", modules, series=names[1], against=against)

    assert figure.to_json() == draw("layers", modules, series=names[1]).to_json()
    assert figure.layout.title.text.endswith("[ms/image]")


@pytest.mark.parametrize("text", ["<img src=x>", r"$\href{javascript:alert(1)}{x}$", "%{y}|"])
def test_the_series_that_it_is_compared_with_is_text(draw, modules, text):
    rows = modules.assign(attention=modules["attention"] + text)
    plain, *_, fused = series_names(rows)
    title = draw("layers", rows, series=fused, against=plain).layout.title.text

    assert "against" in title
    assert text not in title


# Depth


@pytest.mark.parametrize("name", LAYERS)
def test_blocks_are_shown_whole(draw, modules, name):
    shown = of(modules, **SDPA)["module"].unique()
    blocks = {each for each in shown if each.count(".") < 2}

    assert modules_of(draw(name, of(modules, **SDPA), depth="blocks")) == blocks
    assert "blocks.0" in blocks


@pytest.mark.parametrize("name", LAYERS)
def test_parts_stand_in_place_of_their_blocks(draw, modules, name):
    shown = of(modules, **SDPA)["module"].unique()
    blocks = {each for each in shown if re.fullmatch(r"blocks\.\d+", each)}
    rests = {f"{each} rest" for each in blocks}

    assert modules_of(draw(name, of(modules, **SDPA), depth="parts")) == {*shown, *rests} - blocks
    assert {"blocks.0.attn", "neck"} < set(shown)


@pytest.mark.parametrize("size", [1, 4, 32])
def test_parts_add_up_to_the_forward(draw, modules, size):
    rows = of(modules, **SDPA)
    own = rows[rows["batch_size"] == size]
    figure = draw("layer_bars", rows, depth="parts", layer_batch=str(size))
    bars = [bar.y for bar in figure.data]

    assert np.concatenate(bars).sum() == pytest.approx(own["self_s"].sum() / size * 1e3)
    shares = [told[1] for bar in figure.data for told in bar.customdata]
    assert sum(shares) == pytest.approx(100)


def test_what_the_parts_of_a_block_leave_is_its_rest(draw, modules):
    rows = of(modules, **SDPA)
    is_block = (rows["module"] == "blocks.0") & (rows["batch_size"] == 4)
    rows = rows.assign(self_s=rows["self_s"].mask(is_block, 0.002))
    figure = draw("layer_bars", rows, depth="parts", layer_batch="4")
    rest = {x: y for bar in figure.data for x, y in zip(bar.x, bar.y, strict=True)}

    assert rest["blocks.0 rest"] == pytest.approx(0.002 / 4 * 1e3)
    assert rest["blocks.1 rest"] == 0


@pytest.mark.parametrize("name", LAYERS)
def test_where_parts_were_not_timed_the_blocks_are_shown(draw, modules, name):
    rows = of(modules, **SDPA)
    rows = rows[~rows["module"].str.contains(r"^blocks\.\d+\.")]

    parts = draw(name, rows, depth="parts")

    assert parts.to_json() == draw(name, rows, depth="blocks").to_json()
    assert "blocks.0" in modules_of(parts)


def modules_of(figure):
    if figure.data[0].type == "heatmap":
        return set(names_of(figure))
    return {name for trace in figure.data for name in trace.x}


# Bars


@pytest.mark.parametrize("batch", ["1", "4", "32"])
def test_bars_are_of_the_batch_size_that_is_asked_for(draw, modules, batch):
    rows = of(modules, **SDPA)
    figure = draw("layer_bars", rows, layer_batch=batch)
    seconds = shown_s(rows, int(batch))

    assert f"batch {batch}:" in figure.layout.title.text
    for bar in figure.data:
        assert list(bar.y) == pytest.approx((seconds[list(bar.x)] * 1e3).tolist())


@pytest.mark.parametrize("batch", [None, "", "2", "64", "0"])
def test_without_that_batch_size_bars_are_of_the_largest(draw, modules, batch):
    rows = of(modules, **SDPA)
    largest = draw("layer_bars", rows, layer_batch="32")

    assert draw("layer_bars", rows, layer_batch=batch).to_json() == largest.to_json()


def test_a_bar_s_error_bars_are_the_95_percent_interval(draw, modules):
    rows = of(modules, **SDPA)
    rows = rows[rows["batch_size"] == 4].set_index("module")
    for bar in draw("layer_bars", rows.reset_index(), layer_batch="4").data:
        own = rows.loc[list(bar.x)]
        if bar.name == "unattributed":  # whose interval is not known
            assert own["low_s"].isna().all()
            continue
        assert bar.y + bar.error_y.array == pytest.approx((own["high_s"] / 4 * 1e3).to_numpy())
        assert bar.y - bar.error_y.arrayminus == pytest.approx((own["low_s"] / 4 * 1e3).to_numpy())


def test_window_and_global_blocks_differ_in_colour(draw, modules):
    bars = {bar.name: bar.marker.color for bar in draw("layer_bars", of(modules, **SDPA)).data}

    assert len({bars["window"], bars["global"], bars["neck"], bars["unattributed"]}) == 4


def test_a_bar_that_is_too_short_for_the_timer_is_hatched(draw, modules):
    rows = of(modules, **SDPA)
    short = rows.assign(is_resolved=rows["is_resolved"].mask(rows["module"] == "neck", False))
    for bar in draw("layer_bars", short).data:
        for name, shape, told in zip(bar.x, bar.marker.pattern.shape, bar.customdata, strict=True):
            assert (shape == "/") == (name == "neck")
            assert ("too short" in told[-1]) == (name == "neck")


def test_bars_stand_in_the_order_of_the_modules(draw, modules):
    order = list(draw("layer_bars", of(modules, **SDPA)).layout.xaxis.categoryarray)

    assert order[:2] == ["patch_embed", "blocks.0"]
    assert order[-2:] == ["neck", "unattributed"]


# Encoders of others


@pytest.fixture
def torchvision(one_record, make_view):
    """The modules of a record that are called as those of torchvision's ViT are."""
    names = {"image_encoder": None, "conv_proj": ENCODER, "heads": ENCODER}
    for index in range(12):
        block = f"encoder.layers.encoder_layer_{index}"
        names |= {block: ENCODER}
        names |= dict.fromkeys((f"{block}.{part}" for part in TORCHVISION_PARTS), block)
    timings = {name: timing_of(name, parent, names) for name, parent in names.items()}
    measurement = one_record.measurement.with_passes(modules=Modules(timings=timings))
    return make_view([one_record.model_copy(update={"measurement": measurement})])["modules"]


TORCHVISION_PARTS = ("ln_1", "self_attention", "ln_2", "mlp")


def timing_of(name, parent, names):
    """Of a module that has a millisecond for itself, besides those in it."""
    inner = [other for other in names if is_in(other, name, names)]
    seconds = (1 + len(inner)) * 1e-3
    return ModuleTiming(total_s=(seconds,) * 8, self_s=(1e-3,) * 8, kind="any", parent=parent)


def is_in(name, outer, names):
    parent = names[name]
    return parent is not None and (parent == outer or is_in(parent, outer, names))


def test_blocks_of_any_name_are_shown_without_their_parts(torchvision, draw):
    shown = names_of(draw("layers", torchvision))

    assert len(torchvision) == 63
    assert len(shown) == 15  # 12 blocks, what is before and after them, and the rest
    assert not any(name.endswith(TORCHVISION_PARTS) for name in shown)


def test_parts_of_blocks_of_any_name_are_shown_with_the_rest_of_each(torchvision, draw):
    shown = names_of(draw("layers", torchvision, depth="parts"))

    assert sum(name.endswith(TORCHVISION_PARTS) for name in shown) == 48
    assert sum(name.endswith(" rest") for name in shown) == 12
    assert len(shown) == 63


@pytest.mark.parametrize("depth", ["blocks", "parts"])
def test_what_is_shown_of_any_encoder_adds_up_to_its_time(torchvision, draw, depth):
    (trace,) = draw("layers", torchvision, depth=depth).data
    batch_size = torchvision["batch_size"].iloc[0]

    assert np.nansum(trace.z) * batch_size == pytest.approx(63.0)
