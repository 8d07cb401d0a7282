"""Importing this module gives the ops what torch has to know of them: bodies in Python, shapes, gradients."""

from . import autograd as autograd
from . import fake as fake
from . import offsets as offsets
