"""What a benchmark found: a timing for each provider, case and setting, or the reason why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .settings import Setting


@dataclass(frozen=True)
class Timing:
    """One provider on one case. Seconds per step; ratio: time over ours, median over the rounds; a provider that takes
    the optimiser's step as well is set beside ours with FusedSGD.

    forward_gflops: of the cosines alone, per second of forward; peak_gflops: what the machine reached meanwhile
    (see clock.py). extra_mib: peak memory of a step beyond the inputs and the gradients, where measured.
    """

    case: str
    setting: Setting
    provider: str
    rounds: int
    forward: float
    median: float
    lower_quartile: float
    upper_quartile: float
    ratio: float
    forward_gflops: float
    peak_gflops: float
    loss: float
    extra_mib: float | None = None

    @property
    def peak_share(self) -> float:
        return self.forward_gflops / self.peak_gflops

    def row(self) -> dict[str, Any]:
        """The columns of the result files; a GPU's rates are TFLOP/s, with the peak of cuBLAS beside them."""
        row = asdict(self)
        setting, rate, peak, loss, extra = (
            row.pop(name) for name in ("setting", "forward_gflops", "peak_gflops", "loss", "extra_mib")
        )
        rates = {"forward_gflops": rate}
        if self.setting.device == "cuda":
            rates = {"forward_tflops": 1e-3 * rate, "cublas_tflops": 1e-3 * peak}
        last = {**rates, "peak_share": self.peak_share, "loss": loss, "extra_mib": extra}
        return {"case": row.pop("case"), **setting, **row, **last}


@dataclass(frozen=True)
class LeftOut:
    """A provider that a GPU's table lacks, and why: a dtype it does not take, no memory, another loss."""

    case: str
    setting: Setting
    provider: str
    reason: str
