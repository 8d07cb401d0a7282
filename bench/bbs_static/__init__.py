"""What the CUDA kernels cost, read from their machine code: no GPU is needed and nothing here was timed.

Data flows left to right:

    work → kernels → images → sass, binary → machine → gate → page
    plan → traffic → roofline ↗

The kernels are those of `_core.cuda_kernels()`, and their machine code is that of the package's images where it has
them, else compiled by the same commands (CMakeLists.txt). `sources` holds what only a report compiles; `kernels` names
it. `command` is the command line (bench/static_report.py).
"""
