"""Margins that map negatives by a function of the user's: the log-sum-exp in plain torch over blocks of classes.

lse     `cos_lse` of f(c_ij), forward and backward
blocks  which pairs of a block are negatives, targets or broken
pairs   the mined pairs, gathered
"""
