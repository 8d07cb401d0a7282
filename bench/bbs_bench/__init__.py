"""Benchmarks of the basket softmax beside what people would write or use instead: `bbs bench`.

A neighbour of `basket_softmax`, not a part of it: the libraries never import their benchmarks. The command
reaches `bbs` through an entry point (see pyproject.toml).
"""
