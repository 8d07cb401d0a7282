"""`python -m basket_softmax` is `bbs`; under torchrun: `torchrun --nproc-per-node 2 -m basket_softmax demo`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="bbs")
