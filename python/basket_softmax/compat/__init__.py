"""Drop-in replacements with the names, signatures and defaults of other libraries.

`compat.pml`: pytorch-metric-learning's ArcFaceLoss and CosFaceLoss.
`compat.insightface`: insightface's margins and PartialFC_V2.
`compat.fastreid`: fast-reid's EmbeddingHead.
None of the libraries is imported, but by `compat.fastreid.registered`, which enters a model in fast-reid's registries
and which only its users import. What differs from them, and why, is stated in each docstring.
"""

from . import fastreid, insightface, pml

__all__ = ["fastreid", "insightface", "pml"]
