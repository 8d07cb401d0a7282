"""Evaluation of embeddings: verification (ROC, TAR at FAR) and retrieval (rank-k, mAP)."""

from .retrieval import mean_average_precision, rank_k
from .verification import Roc, roc

__all__ = ["Roc", "mean_average_precision", "rank_k", "roc"]
