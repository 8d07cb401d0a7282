"""CUDA kernels without nvcc: the package's own headers, compiled by NVRTC at first use and launched through CuPy.

sources    which headers and which instantiations a launch needs
compiler   source text to machine code, cached on disk; needs no GPU
calls      tensors to the plan and the parameter bytes, both from `_core`
launcher   machine code and bytes onto torch's current stream
ops        the ops of the CUDA key, registered when no compiled CUDA library is there
"""
