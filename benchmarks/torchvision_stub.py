"""Lets torchgeo import its datasets and samplers without torchvision, which does not fit every build of torch.

torchgeo 0.8 names torchvision's classes when it is imported; RasterDataset and the samplers use none of them. For
this benchmark alone: the product never imports torchgeo.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


class _Anything:
    """Stands for any class or function: can be derived from, never used."""


class _Stub(ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - that is how a package says it has submodules

    def __getattr__(self, name: str) -> type[_Anything]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torchvision` and everything below it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute."""


def install() -> None:
    """Stand in for torchvision where it is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Finder())
