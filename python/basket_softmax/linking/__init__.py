"""Linking while training: classes of different baskets that turn out to be one identity."""

from .linker import IdentityLinker

__all__ = ["IdentityLinker"]
