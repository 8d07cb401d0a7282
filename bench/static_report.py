"""What the CUDA kernels cost, read from their machine code: `python bench/static_report.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bbs_static.command import main

if __name__ == "__main__":
    main()
