"""A handful of steps, for compute-sanitizer: every kernel of forward and backward, small.

python -m bbs_gpu.handful DEVICE
"""

from __future__ import annotations

import sys

from support.large_cases import KINDS, make_problem, matmul_precision, rule_of, run_step

from .sizes import Case

CASES = (
    Case("bf16, fp32 W", 150, 72, 600, 4),
    Case("tf32", 40, 40, 300, 1),
    Case("fp32", 40, 37, 300, 4),
)


def main(device: str) -> None:
    for case in CASES:
        problem = make_problem(case, "cpu")
        # Made on the host: a sanitizer slows down every kernel, those of the data too.
        problem = problem._replace(
            **{name: getattr(problem, name).to(device) for name in ("x", "w", "labels")}
        )
        with matmul_precision(KINDS[case.kind].tf32):
            result = run_step(problem, rule_of(case), 1 << 20)
        print(f"{case.name}: loss {float(result.losses.sum()):.6g}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
