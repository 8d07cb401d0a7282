"""A GPU that is emulated below the driver's interface: the shipped C++ op bodies and kernels run on tensors of the CPU.

host_ops.cpp  the op bodies registered a second time, and the seams of the op library opened; no wheel holds it
library.py    compiles and loads it
driver.py     the table of driver functions: devices, contexts, streams, libraries; launches go to the PTX machine
memory.py     what torch allocated, as memory of the machine, with its bounds and what was written
images.py     the PTX of each kernel
watch.py      a dispatch mode that sees what the op bodies allocate
gpu.py        all of it together: what tests use
real.py       the same interface on the GPU of this machine
"""

from .gpu import EmulatedGpu
from .real import RealGpu

__all__ = ["EmulatedGpu", "RealGpu"]
