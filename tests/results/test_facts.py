"""What is the same at every run of the same code, and what is told where it is not."""

from __future__ import annotations

import json

import pytest

from results.records.reading import BrokenFileError
from results.verdicts.facts import (
    OF_TORCH,
    TOLERANCE,
    Facts,
    FactsFile,
    differences,
    facts_path,
    not_compared,
    read_facts,
    variant_name,
    write_facts,
)

FACTS = Facts(
    parameters=89_670_912, weights_bytes=358_683_648, flops=740_000_000_000,
    least_flops=700_000_000_000, output_shape=(1, 256, 64, 64),
    operations={"aten::linear": 48, "aten::conv2d": 3}, graph_breaks=0,
    output=(1.5, -0.25, 1000.0),
)  # fmt: skip
# A field, another value of it, and how the difference is told.
CHANGES = {
    "parameters": (89_670_913, ("89670912", "89670913")),
    "weights_bytes": (1, ("358683648", "1")),
    "flops": (740_000_000_001, ("740000000000", "740000000001")),
    "least_flops": (0, ("700000000000", "0")),
    "output_shape": ((1, 256, 32, 32), ("(1, 256, 64, 64)", "(1, 256, 32, 32)")),
    "operations": ({"aten::linear": 49, "aten::conv2d": 3}, ("48", "49")),
    "graph_breaks": (2, ("0", "2")),
    "output": ((1.5, -0.25, 1001.0), ("1.5, -0.25, 1000", "1.5, -0.25, 1001")),
}


def file_of(torch="2.15.0+cpu", planned_cases=3, **variants):
    names = {name.replace("_", " "): facts for name, facts in variants.items()}
    return FactsFile(
        model="vit_b", torch=torch, planned_cases=planned_cases,
        variants=names or {"sdpa 1024px fp32": FACTS},
    )  # fmt: skip


def changed(**changes):
    return file_of(sdpa_1024px_fp32=FACTS.model_copy(update=changes))


def found(expected, other):
    return list(differences(expected, other))


# Differences


def test_equal_facts_do_not_differ():
    assert found(file_of(), file_of()) == []


@pytest.mark.parametrize(("field", "change"), CHANGES.items(), ids=CHANGES)
def test_every_fact_that_differs_is_told_with_both_values(field, change):
    value, (old, new) = change
    (difference,) = found(file_of(), changed(**{field: value}))

    assert (difference.model, difference.variant) == ("vit_b", "sdpa 1024px fp32")
    assert difference.fact.split(" ")[0] == field
    assert (difference.expected, difference.found) == (old, new)


@pytest.mark.parametrize(("field", "change"), CHANGES.items(), ids=CHANGES)
def test_a_fact_that_differs_does_so_in_either_direction(field, change):
    value, (old, new) = change
    (difference,) = found(changed(**{field: value}), file_of())

    assert (difference.expected, difference.found) == (new, old)


def test_every_field_is_looked_at():
    assert set(CHANGES) == set(Facts.model_fields)


@pytest.mark.parametrize(("old", "new"), [(3, 4), (4, 3), (0, 3)])
def test_another_count_of_planned_cases_is_a_difference(old, new):
    (difference,) = found(file_of(planned_cases=old), file_of(planned_cases=new))

    assert difference.name == "vit_b planned cases"
    assert (difference.expected, difference.found) == (str(old), str(new))


def test_a_variant_of_one_side_alone_is_a_difference():
    both = file_of(sdpa=FACTS, fold=FACTS)
    (missing,), (extra,) = found(both, file_of(sdpa=FACTS)), found(file_of(sdpa=FACTS), both)

    assert (missing.name, missing.expected, missing.found) == (
        "vit_b fold variant", "there", "missing",
    )  # fmt: skip
    assert (extra.name, extra.expected, extra.found) == ("vit_b fold variant", "missing", "there")


def test_each_operation_that_differs_is_told_by_itself():
    other = changed(operations={"aten::linear": 47, "aten::mm": 1, "aten::conv2d": 3})

    assert [
        (each.fact, each.expected, each.found) for each in found(file_of(), other)
    ] == [("operations aten::linear", "48", "47"), ("operations aten::mm", "0", "1")]  # fmt: skip


def test_all_that_differs_is_told():
    other = changed(**{field: value for field, (value, _) in CHANGES.items()})

    assert len(found(file_of(), other)) == len(CHANGES)


def test_that_torch_can_not_tell_graph_breaks_is_a_difference():
    (difference,) = found(file_of(), changed(graph_breaks=None))

    assert (difference.expected, difference.found) == ("0", "None")


# The output's sums


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        (1000.0, 1000.0 * (1 + 0.9 * TOLERANCE), False),
        (1000.0, 1000.0 * (1 + 2 * TOLERANCE), True),
        (1000.0, 1000.0 * (1 - 2 * TOLERANCE), True),
        (0.0, 0.9 * TOLERANCE, False),
        (0.0, 2 * TOLERANCE, True),
        (1.0, -1.0, True),
    ],
)
def test_sums_may_differ_by_the_order_of_adding_alone(old, new, differs):
    assert bool(found(changed(output=(1.0, old)), changed(output=(1.0, new)))) is differs
    assert bool(found(changed(output=(1.0, new)), changed(output=(1.0, old)))) is differs


@pytest.mark.parametrize("output", [(), (1.5,), (1.5, -0.25, 1000.0, 0.0), (-0.25, 1.5, 1000.0)])
def test_another_number_or_order_of_sums_is_a_difference(output):
    (difference,) = found(file_of(), changed(output=output))

    assert difference.fact == "output"


def test_sums_that_differ_are_told_apart_by_what_is_shown():
    (difference,) = found(changed(output=(1.0,)), changed(output=(1.0 + 2 * TOLERANCE,)))

    assert difference.expected != difference.found


# Another torch


@pytest.mark.parametrize("field", OF_TORCH)
@pytest.mark.parametrize("torch", ["2.16.0", "3.15.0", "2.1.5"])
def test_what_another_torch_counts_otherwise_is_not_compared(torch, field):
    other = changed(**{field: CHANGES[field][0]}).model_copy(update={"torch": torch})

    assert found(file_of(), other) == []


@pytest.mark.parametrize("field", [field for field in CHANGES if field not in OF_TORCH])
def test_what_no_torch_changes_is_compared_with_any(field):
    other = changed(**{field: CHANGES[field][0]}).model_copy(update={"torch": "2.16.0"})

    assert [each.fact for each in found(file_of(), other)] == [field]


@pytest.mark.parametrize("torch", ["2.15.0", "2.15.1+cu130", "2.15.0a0+git123", "2.15"])
def test_a_torch_of_the_same_minor_version_counts_the_same(torch):
    other = changed(graph_breaks=5).model_copy(update={"torch": torch})

    assert len(found(file_of(), other)) == 1
    assert not_compared({"vit_b": file_of()}, {"vit_b": other}) == []


def test_what_was_not_compared_is_said():
    (said,) = not_compared({"vit_b": file_of()}, {"vit_b": file_of(torch="2.16.0")})

    assert said.startswith("vit_b: operations and graph breaks were not compared")
    assert "2.15.0+cpu, and this is 2.16.0" in said


def test_of_a_model_that_nothing_is_expected_of_nothing_is_said():
    assert not_compared({}, {"vit_b": file_of(torch="2.16.0")}) == []


# Names


def test_a_variant_is_named_by_what_its_facts_depend_on(make_case):
    assert variant_name(make_case()) == "reference 1024px bf16"
    assert variant_name(make_case(attention="own", image_size=512)) == "512px bf16"


@pytest.mark.parametrize("axis", ["batch_size", "execution", "device", "input", "weights"])
def test_what_facts_do_not_depend_on_is_not_in_a_variant_s_name(make_case, axis):
    other = {"batch_size": 8}.get(axis, "other")

    assert variant_name(make_case(**{axis: other})) == variant_name(make_case())


# On disk


def test_facts_are_read_as_they_were_written(tmp_path):
    several = file_of(sdpa=FACTS, fold=FACTS.model_copy(update={"graph_breaks": None}))
    path = write_facts(tmp_path, several)

    assert path == tmp_path / "facts" / "vit_b.json"
    assert read_facts(tmp_path, "vit_b") == several


def test_sums_are_kept_to_their_last_bit(tmp_path):
    sums = (0.1 + 0.2, 1 / 3, 1e-300, -0.0)
    write_facts(tmp_path, changed(output=sums))
    (read,) = read_facts(tmp_path, "vit_b").variants.values()

    assert [each.hex() for each in read.output] == [each.hex() for each in sums]


def test_the_same_facts_again_write_the_same_bytes_whatever_their_order(tmp_path):
    text = write_facts(tmp_path, file_of(sdpa=FACTS, fold=FACTS)).read_bytes()
    operations = dict(reversed(FACTS.operations.items()))
    backwards = FACTS.model_copy(update={"operations": operations})

    assert write_facts(tmp_path, file_of(fold=backwards, sdpa=FACTS)).read_bytes() == text
    assert write_facts(tmp_path, read_facts(tmp_path, "vit_b")).read_bytes() == text


def test_a_fact_that_changed_is_one_line_of_a_diff(tmp_path):
    texts = [
        write_facts(tmp_path, each).read_text().splitlines()
        for each in (file_of(), changed(flops=1))
    ]

    assert [new for old, new in zip(*texts, strict=True) if old != new] == ['   "flops": 1,']


@pytest.mark.parametrize("model", ["tiny", "package.module:function"])
def test_a_model_s_file_lies_in_the_folder_of_facts(tmp_path, model):
    path = facts_path(tmp_path, model)

    assert path.parent == tmp_path / "facts"
    assert ":" not in path.name


def test_of_a_model_without_a_file_nothing_is_expected(tmp_path):
    assert read_facts(tmp_path, "vit_b") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"planned_cases": -1}, "planned_cases"), ({"planned_cases": "3"}, "planned_cases"),
        ({"schema_version": 1}, "schema_version is 1"), ({"extra": 1}, "extra"),
        ({"variants": {"a": {}}}, "variants.a.parameters"),
        ({"variants": {"a": json.loads(FACTS.model_dump_json()) | {"output": ["1"]}}}, "output"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_and_says_where(tmp_path, change, reason):
    path = write_facts(tmp_path, file_of())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(BrokenFileError, match=reason):
        read_facts(tmp_path, "vit_b")


def test_half_a_file_is_refused(tmp_path):
    path = write_facts(tmp_path, file_of())
    path.write_text(path.read_text()[:100])

    with pytest.raises(BrokenFileError, match="it is not JSON"):
        read_facts(tmp_path, "vit_b")
