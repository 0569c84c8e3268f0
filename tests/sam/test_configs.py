import re

import pytest

from sam.families import MODELS
from sam.sam1.configs import PATCH_SIZE, check_image_size

OFFICIAL = {name: config.checkpoint for name, config in MODELS.items() if config.checkpoint}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_listed_under_its_name(name):
    assert MODELS[name].name == name


@pytest.mark.parametrize("name", MODELS)
def test_heads_share_the_channels_evenly(name):
    config = MODELS[name].config

    assert config.head_dim * config.num_heads == config.embed_dim


@pytest.mark.parametrize("name", MODELS)
def test_the_last_block_of_each_equal_share_is_global(name):
    config = MODELS[name].config
    share = config.depth // len(config.global_blocks)

    assert config.global_blocks == tuple(range(share - 1, config.depth, share))


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_file_has_a_hash_a_size_and_an_address(name):
    official = OFFICIAL[name]

    assert re.fullmatch("[0-9a-f]{64}", official.sha256)
    assert official.size_bytes > 300_000_000
    assert official.url == f"https://dl.fbaipublicfiles.com/segment_anything/{official.filename}"


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_file_is_named_after_its_model(name):
    assert re.fullmatch(f"sam_{name}_[0-9a-f]{{6}}\\.pth", OFFICIAL[name].filename)


@pytest.mark.parametrize("patches", [1, 14, 64])
def test_whole_patches_are_an_image_size(patches):
    assert check_image_size(patches * PATCH_SIZE) == patches * PATCH_SIZE
