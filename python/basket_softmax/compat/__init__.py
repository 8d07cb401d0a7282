"""Drop-in replacements with the names, signatures and defaults of other libraries.

`compat.pml`: pytorch-metric-learning's ArcFaceLoss and CosFaceLoss.
`compat.insightface`: insightface's margins and PartialFC_V2.
Neither library is imported. What differs from them, and why, is stated in each docstring.
"""

from . import insightface, pml

__all__ = ["insightface", "pml"]
