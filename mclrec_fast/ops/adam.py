"""One step of Adam over a list of weights, in place: the operator `adam_step`.

Holds the schema; the kernel is csrc/cpu/adam_cpu.cpp, for CPUs only, its twin torch's own fused
kernel. What keeps the state is training/adam.py. Source: Kingma & Ba, ICLR 2015.
"""

from ._shared import define_op


def _fake(*_: object) -> None:
    return None


define_op(
    "adam_step",
    "(Tensor(a!)[] weights, Tensor[] gradients, Tensor(b!)[] first, Tensor(c!)[] second, "
    "Tensor(d!) steps, float learning_rate, float beta_1, float beta_2, float eps) -> ()",
    _fake,
)
