"""The table of backbones. Adding one is adding a row.

A row says where the head sits, how many features come out, which blocks the network has from input to output, and
how its images are prepared. Nothing here imports torch; :mod:`pipeline.models.network` builds what a row describes.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from pipeline.core.errors import WeightsError
from pipeline.data.preprocessing import Preprocessing

Blocks = dict[str, tuple[str, ...]]
"""Block name → the attribute paths it covers, ordered from input to output."""


class Backbone(NamedTuple):
    """One architecture.

    ``head`` is the attribute path of the final Linear, which becomes an Identity so that the module returns features
    of ``feature_dim``. ``blocks`` cover every other parameter exactly once; ``partial`` freezes the first k of them
    and discriminative rates fall towards the first. ``dropped`` are auxiliary parts of published checkpoints that
    transfer does not use.
    """

    name: str
    head: str
    feature_dim: int
    blocks: Blocks
    preprocessing: Preprocessing
    home: str = "torchvision"
    dropped: tuple[str, ...] = ()
    least_px: int = 32
    """Side of the smallest images that it takes."""


def imagenet(size_px: int = 224, resize_px: int = 256) -> Preprocessing:
    """Shorter side to ``resize_px``, central ``size_px`` square, ImageNet's mean and standard deviation.

    Bilinear with antialiasing throughout; the few checkpoints published with bicubic resizing (efficientnet) lose a
    fraction of a point and keep one definition that ONNX reproduces exactly.
    """
    return Preprocessing(size_px=size_px, resize_px=resize_px)


HALF = (0.5, 0.5, 0.5)

SMALL = Preprocessing(size_px=32, resize_px=32, fit="stretch", mean=HALF, std=HALF)

# torchvision's inception_v3 converts ImageNet-normalised input to [-1, 1] by itself (transform_input); asking for
# mean 0.5 and standard deviation 0.5 is the same arithmetic done once, so that switch stays off.
INCEPTION = Preprocessing(size_px=299, resize_px=342, mean=HALF, std=HALF)


def _numbered(prefix: str, *ranges: tuple[str, int, int]) -> Blocks:
    """``("stage1", 2, 3)`` → ``{"stage1": (prefix.2, prefix.3)}``; both ends are included."""
    return {name: tuple(f"{prefix}.{index}" for index in range(first, last + 1)) for name, first, last in ranges}


RESNET: Blocks = {"stem": ("conv1", "bn1"), **{f"layer{n}": (f"layer{n}",) for n in (1, 2, 3, 4)}}

VGG16: Blocks = {
    "conv1": ("features.0", "features.2"),
    "conv2": ("features.5", "features.7"),
    "conv3": ("features.10", "features.12", "features.14"),
    "conv4": ("features.17", "features.19", "features.21"),
    "conv5": ("features.24", "features.26", "features.28"),
    "fc6": ("classifier.0",),
    "fc7": ("classifier.3",),
}

INCEPTION_V3: Blocks = {
    "stem": ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    "mixed5": ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    "mixed6": ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    "mixed7": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}

MOBILENET_V2 = _numbered(
    "features",
    ("stem", 0, 1),
    ("stage1", 2, 3),
    ("stage2", 4, 6),
    ("stage3", 7, 13),
    ("stage4", 14, 17),
    ("last", 18, 18),
)

MOBILENET_V3_LARGE: Blocks = {
    **_numbered(
        "features",
        ("stem", 0, 1),
        ("stage1", 2, 3),
        ("stage2", 4, 6),
        ("stage3", 7, 12),
        ("stage4", 13, 15),
        ("last", 16, 16),
    ),
    "fc": ("classifier.0",),
}

MOBILENET_V3_SMALL: Blocks = {
    **_numbered("features", ("stem", 0, 1), ("stage1", 2, 3), ("stage2", 4, 8), ("stage3", 9, 11), ("last", 12, 12)),
    "fc": ("classifier.0",),
}

EFFICIENTNET_B0 = _numbered(
    "features", ("stem", 0, 1), ("stage1", 2, 2), ("stage2", 3, 3), ("stage3", 4, 5), ("stage4", 6, 7), ("last", 8, 8)
)

DENSENET121: Blocks = {
    "stem": ("features.conv0", "features.norm0"),
    "dense1": ("features.denseblock1", "features.transition1"),
    "dense2": ("features.denseblock2", "features.transition2"),
    "dense3": ("features.denseblock3", "features.transition3"),
    "dense4": ("features.denseblock4", "features.norm5"),
}

CONVNEXT: Blocks = {
    **_numbered("features", ("stem", 0, 0), ("stage1", 1, 1), ("stage2", 2, 3), ("stage3", 4, 5)),
    "stage4": ("features.6", "features.7", "classifier.0"),
}


def _encoder_layers(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"encoder.layers.encoder_layer_{index}" for index in range(first, last + 1))


VIT_B: Blocks = {
    "stem": ("conv_proj", "class_token", "encoder.pos_embedding"),
    "layers0_2": _encoder_layers(0, 2),
    "layers3_5": _encoder_layers(3, 5),
    "layers6_8": _encoder_layers(6, 8),
    "layers9_11": (*_encoder_layers(9, 11), "encoder.ln"),
}

SMALL_CNN: Blocks = {name: (name,) for name in ("stem", "stage1", "stage2", "stage3")}

_ROWS = (
    Backbone("small_cnn", "head", 256, SMALL_CNN, SMALL, home="graftline"),
    Backbone("resnet18", "fc", 512, RESNET, imagenet()),
    Backbone("resnet34", "fc", 512, RESNET, imagenet()),
    Backbone("resnet50", "fc", 2048, RESNET, imagenet()),
    Backbone("vgg16", "classifier.6", 4096, VGG16, imagenet()),
    Backbone("inception_v3", "fc", 2048, INCEPTION_V3, INCEPTION, dropped=("AuxLogits",), least_px=75),
    Backbone("mobilenet_v2", "classifier.1", 1280, MOBILENET_V2, imagenet()),
    Backbone("mobilenet_v3_large", "classifier.3", 1280, MOBILENET_V3_LARGE, imagenet()),
    Backbone("mobilenet_v3_small", "classifier.3", 1024, MOBILENET_V3_SMALL, imagenet()),
    Backbone("efficientnet_b0", "classifier.1", 1280, EFFICIENTNET_B0, imagenet()),
    Backbone("densenet121", "classifier", 1024, DENSENET121, imagenet()),
    Backbone("convnext_tiny", "classifier.2", 768, CONVNEXT, imagenet(resize_px=236)),
    Backbone("vit_b_16", "heads.head", 768, VIT_B, imagenet(), least_px=224),
)

BACKBONES = {row.name: row for row in _ROWS}


def backbone(name: str) -> Backbone:
    """The row called ``name``.

    Raises:
        WeightsError: there is none; the message lists those that exist and the nearest name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    nearest = difflib.get_close_matches(name, BACKBONES, n=1)
    raise WeightsError(
        expected=f"a backbone, one of: {', '.join(BACKBONES)}",
        found=f"'{name}'",
        where="backbone.name in params.yaml",
        remedy=f"Did you mean '{nearest[0]}'?" if nearest else "Choose one of the names above.",
    )
