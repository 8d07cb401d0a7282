"""Memory that the CPU ops keep from one step to the next, and how to give it back.

A gradient of the centres of 32 MiB or more, and a stash of that size, are kept when they are freed and handed out
again for the next one of the same size: at most one block of each. Fresh memory of that size would be faulted in
page by page in every step. `BBS_KEEP_BLOCKS=0` in the environment keeps nothing; torch 2.10 cannot keep any.
"""

from __future__ import annotations

from .ops.load import OPS


def release_workspace() -> int:
    """Give the kept memory back to the system, e.g. between training and evaluation.

    Returns:
        The bytes given back; 0 when nothing was kept. Tensors in use are not touched.
    """
    released: int = OPS.release_workspace()
    return released
