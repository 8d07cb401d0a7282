"""What the CUDA kernels cost, read from their machine code: no GPU is needed and nothing here was timed.

Data flows left to right:

    kernels → compiler → sass, binary → machine → gate → report
    plan → traffic → roofline ↗

`kernels` is the table to extend with a new kernel; `command` is the command line (bench/static_report.py).
"""
