"""Evaluation of embeddings: verification (ROC, TAR at FAR, accuracy in folds) and retrieval (rank-k, mAP)."""

from .folds import fold_accuracy
from .retrieval import mean_average_precision, rank_k
from .verification import Roc, roc

__all__ = ["Roc", "fold_accuracy", "mean_average_precision", "rank_k", "roc"]
