"""Where a thread's time goes: the phases of an epoch, and a clock that is free when unused."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from fastmnist.kernels.jit import intrinsic, jit
from fastmnist.kernels.target import ARM

# In the order in which a chunk of samples passes through them.
PHASES = (
    "making rows",
    "turning round",
    "first layer forward",
    "waiting",
    "later layers forward",
    "loss",
    "backward",
    "first layer update",
    "later layers update",
)
# numbers of NumPy, for the reason given at `network.FIRST`
FRESH, TURN, FORWARD, WAIT, LATER, LOSS, BACKWARD, UPDATE, LATER_UPDATE = map(
    np.int64, range(len(PHASES))
)
_LAST = len(PHASES)  # when the last phase ended


def new_ticks() -> NDArray[np.int64]:
    """Room for one thread's processor ticks in each phase."""
    return np.zeros(len(PHASES) + 1, np.int64)


@intrinsic
def now(typingctx: Any) -> Any:
    """The processor's tick counter, which runs at a constant rate."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        if ARM:  # its counter of cycles is closed to programs: to read it would end the process
            kind = ir.FunctionType(word, [ir.MetaDataType()])
            name = "llvm.read_volatile_register.i64"
            arguments = [builder.module.add_metadata(["CNTVCT_EL0"])]
        else:
            kind, name, arguments = ir.FunctionType(word, []), "llvm.readcyclecounter", []
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, arguments)

    return types.int64(), codegen


@jit
def start(ticks):
    """The first phase begins now. Where `ticks` is None, as in a training, no code is made."""
    if ticks is not None:
        ticks[_LAST] = now()


@jit
def lap(ticks, phase):
    """`phase` has been going on since the last call and ends now."""
    if ticks is not None:
        here = now()
        ticks[phase] += here - ticks[_LAST]
        ticks[_LAST] = here
