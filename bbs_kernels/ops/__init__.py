"""The ops: loading, shapes, gradients, and the one place that spells their arguments. No loss, no message about a loss.

register      imports what registers something with torch
load          the op libraries, and `OPS`
call          a step's arguments, forward and backward; every op's argument list
prepare       from the arguments of the public functions to a call: checks, autocast, guards
fake          shapes of outputs
autograd      gradients
tensor_scale  overloads whose scale and margins come in a tensor
layout        the layout of gradients
offsets       where a class lies among the baskets
precision     how precisely torch multiplies fp32
placement     whether the ops of a tensor run on a device
images        the file or the compilation that holds a CUDA kernel; what the op library calls
nvrtc         one kernel compiled at first use, and its cache on disk
"""
