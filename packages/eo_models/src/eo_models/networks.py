"""The networks that a `train` section may name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from torch import nn

from eo_data.errors import UsageError
from eo_models.configuration import NetworkName, TrainSection
from eo_models.pixels import PixelNetwork
from eo_models.segformer import SegFormer
from eo_models.unet import Reflectance, UNet

Build = Callable[[Reflectance, int, TrainSection], nn.Module]


def require_extra(section: TrainSection) -> None:
    """Refuse a network whose library is not there.

    Raises:
        UsageError: Naming the extra that brings it.
    """
    if section.network == "SegFormer" and find_spec("transformers") is None:
        raise UsageError(
            "SegFormer needs the extra 'segformer' of eo-models, which is not installed",
            where="train.network",
            fix="Install eo-models[segformer], or name another network",
        )


def build_network(reflectance: Reflectance, classes: int, section: TrainSection) -> nn.Module:
    """The network of a `train` section, with fresh weights.

    Args:
        reflectance: The normalisation, inside the network.
        classes: How many it tells apart.
        section: Which network, and its sizes.

    Raises:
        UsageError: If its library is not installed.
    """
    require_extra(section)
    return NETWORKS[section.network](reflectance, classes, section)


def _unet(reflectance: Reflectance, classes: int, section: TrainSection) -> nn.Module:
    return UNet(
        reflectance,
        classes=classes,
        channels=section.channels,
        convolutions=section.convolutions,
        dropout=section.dropout,
    )


def _pixels(reflectance: Reflectance, classes: int, section: TrainSection) -> nn.Module:
    return PixelNetwork(
        reflectance,
        classes=classes,
        channels=section.channels,
        windows=section.windows,
        dropout=section.dropout,
    )


def _segformer(reflectance: Reflectance, classes: int, section: TrainSection) -> nn.Module:
    return SegFormer(reflectance, classes=classes, sizes=section.segformer, dropout=section.dropout)


NETWORKS: Final[dict[NetworkName, Build]] = {"U-Net": _unet, "pixels": _pixels, "SegFormer": _segformer}
