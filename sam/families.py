"""The model families, and one row for each of their models.

Nothing here imports torch, so that a command can list the models at once.
"""

from __future__ import annotations

from .family import Family, Model, OfficialCheckpoint
from .sam1.configs import OFFICIAL_URL, ModelConfig
from .sam1.family import SAM1

FAMILIES: dict[str, Family] = {family.name: family for family in (SAM1,)}

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "tiny",
            SAM1.name,
            ModelConfig(64, 4, 2, (1, 3)),
            "SAM with a tiny encoder, 5 M parameters: for tests",
        ),
        Model(
            "vit_b",
            SAM1.name,
            ModelConfig(768, 12, 12, (2, 5, 8, 11)),
            "SAM with ViT-B, 94 M parameters",
            OfficialCheckpoint(
                "sam_vit_b_01ec64.pth",
                375_042_383,
                "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
                OFFICIAL_URL,
            ),
        ),
        Model(
            "vit_l",
            SAM1.name,
            ModelConfig(1024, 24, 16, (5, 11, 17, 23)),
            "SAM with ViT-L, 312 M parameters",
            OfficialCheckpoint(
                "sam_vit_l_0b3195.pth",
                1_249_524_607,
                "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
                OFFICIAL_URL,
            ),
        ),
        Model(
            "vit_h",
            SAM1.name,
            ModelConfig(1280, 32, 16, (7, 15, 23, 31)),
            "SAM with ViT-H, 641 M parameters",
            OfficialCheckpoint(
                "sam_vit_h_4b8939.pth",
                2_564_550_879,
                "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
                OFFICIAL_URL,
            ),
        ),
    )
}
