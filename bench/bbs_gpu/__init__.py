"""The report of a GPU: what is run on its day, in which order, and the page that shows it (tools/gpu_report.py).

Data flows left to right; the two halves meet in files only:

    sizes, items → document → runner → page      the report: no torch, survives whatever the other half does
    device, sheet → the items' modules → child   a process of its own: builds, tests and measures

Floors are computed from the peaks that the same report measured (floors.py). `--device cpu` runs everything but the
timing, with the small shapes of sizes.py.
"""
