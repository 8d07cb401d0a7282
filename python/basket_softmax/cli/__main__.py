"""`python -m basket_softmax.cli`, for torchrun and where `bbs` is not on PATH."""

from . import main

main(prog_name="bbs")
