"""How the ops get what they need at run time: the images of the CUDA kernels. No check, no loss, no tensor math.

images     the file or the compilation that holds a kernel; what the op library calls
nvrtc      one kernel compiled at first use, and its cache on disk
placement  whether the ops of a tensor run on a device
"""
