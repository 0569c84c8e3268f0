"""Which family a model is of: never an error, whatever its name."""

from __future__ import annotations

import pytest
import torch

from benchmarking.choices.families import EXTERNAL, family_of, find_model
from results.records import case
from sam.families import FAMILIES, MODELS
from sam.family import OWN


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_ours_is_of_its_rows_family(name):
    assert find_model(name) is MODELS[name]
    assert family_of(name) is FAMILIES[MODELS[name].family]


@pytest.mark.parametrize("name", ["package.module:function", "a model of tomorrow", ""])
def test_any_other_name_is_that_of_an_external_encoder(name):
    assert family_of(name) is EXTERNAL
    assert find_model(name).name == name


def test_an_external_encoder_lacks_what_only_its_code_could_tell():
    assert EXTERNAL.work is EXTERNAL.embedding_shape is EXTERNAL.export is None
    assert EXTERNAL.prompts is EXTERNAL.mask_generator is None
    assert not EXTERNAL.attention
    assert not EXTERNAL.eight_bit_layers


def test_an_external_encoder_gets_the_images_of_sam_1():
    pixels = torch.rand(3, 64, 48) * 255
    ours, theirs = (
        family.preprocessor(64, torch.device("cpu"))(pixels)
        for family in (FAMILIES["sam1"], EXTERNAL)
    )

    assert torch.equal(ours, theirs)


def test_records_and_families_mean_the_same_by_own():
    assert case.OWN == OWN
