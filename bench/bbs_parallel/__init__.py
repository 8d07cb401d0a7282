"""The class-parallel head on 1 and 2 ranks beside insightface's algorithm: time, scaling and bytes on the wire.

Runs from the checkout by `python bench/parallel_scaling.py`; not installed.
"""
