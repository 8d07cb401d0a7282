"""What the CUDA kernels cost, read from their machine code: no GPU is needed and nothing here was timed.

Data flows left to right:

    work, units → kernels → compiler → sass, binary → machine → gate → page
    plan → traffic → roofline ↗

`kernels` is the table; a new kernel is a row of `forward_units` or `backward_units`. `command` is the command line
(bench/static_report.py).
"""
