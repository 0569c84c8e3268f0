import numpy as np
import pytest

from sam.sam1.prompts import Prompts


def points(prompts):
    return {"point_coords": np.zeros((prompts, 1, 2)), "point_labels": np.ones((prompts, 1))}


def boxes(prompts):
    return {"boxes": np.zeros((prompts, 4))}


def masks(prompts):
    return {"mask_inputs": np.zeros((prompts, 1, 32, 32))}


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({}, "got nothing"),
        (points(2) | boxes(3), r"got \[2, 3\]"),
        (boxes(1) | masks(2), r"got \[1, 2\]"),
    ],
    ids=["nothing", "points and boxes", "boxes and masks"],
)
def test_prompts_hold_the_same_number_of_each_kind(given, got):
    with pytest.raises(ValueError, match=rf"must hold points, boxes or masks.*{got}"):
        Prompts(**given)


@pytest.mark.parametrize("alone", ["point_coords", "point_labels"])
def test_prompts_hold_points_and_labels_together(alone):
    with pytest.raises(ValueError, match="must be given together"):
        Prompts(**{alone: points(2)[alone]})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"boxes": np.zeros(4)}, r"boxes must have shape \(any, 4\), got \(4,\)"),
        ({"boxes": np.zeros((2, 2))}, r"boxes must have shape \(any, 4\), got \(2, 2\)"),
        (
            {"point_coords": np.zeros((3, 2)), "point_labels": np.ones(3)},
            r"point_coords must have shape \(any, any, 2\), got \(3, 2\)",
        ),
        (
            {"point_coords": np.zeros((3, 1, 2)), "point_labels": np.ones(3)},
            r"point_labels must have shape \(3, 1\), got \(3,\)",
        ),
        (
            {"mask_inputs": np.zeros((1, 16, 16))},
            r"mask_inputs must have shape \(any, 1, any, any\)",
        ),
    ],
)
def test_prompts_of_another_shape_are_refused_at_once(given, line):
    with pytest.raises(ValueError, match=line):
        Prompts(**given)
