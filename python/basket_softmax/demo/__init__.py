"""The demo: multi-dataset training with overlapping, unaligned identities on characters; `bbs demo` runs it."""

from .run import run_demo

__all__ = ["run_demo"]
