"""How the threads of a team share work and wait for each other: a few atomic words.

Each word stands on cache lines of its own, so that polling one does not slow down another.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import types
from numpy.typing import NDArray

from fastmnist.kernels.jit import OFF, intrinsic, jit
from fastmnist.kernels.plain import yield_processor
from fastmnist.kernels.vectors import _address

# From word to word, in int64: 256 bytes, the longest line there is (A64FX; Apple's have 128, and
# x86 brings up pairs of 64).
_APART = 32
ARRIVED, GENERATION, CLAIMED, CANCEL, STOPPED, ABANDONED = (_APART * word for word in range(6))

# Polls before a waiting thread gives its processor away: with more threads than processors,
# spinning for good costs 4 to 28 ms a barrier, yielding 2 to 15 us.
_SPINS = 2000

if OFF:
    _yield = yield_processor
elif sys.platform == "win32":
    # not in the C library, so LLVM needs its address
    _switch = ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p)
    binding.add_symbol("SwitchToThread", _switch.value)
    _yield = types.ExternalFunction("SwitchToThread", types.int32())
else:
    _yield = types.ExternalFunction("sched_yield", types.int32())


def new_words() -> NDArray[np.int64]:
    """The shared words of one team, apart from one another."""
    return np.zeros(6 * _APART, np.int64)


@intrinsic
def fetch_add(typingctx: Any, words: Any, index: Any, amount: Any) -> Any:
    """Atomically add to ``words[index]``; return what was there before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", address, args[2], "acq_rel")

    return types.int64(words, types.intp, types.int64), codegen


@intrinsic
def acquire(typingctx: Any, words: Any, index: Any) -> Any:
    """``words[index]``, read anew each time, with all that was written before it was set.

    (A plain read in a loop is hoisted out of it, and the loop never ends.)
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(address, "acquire", 8, typ=ir.IntType(64))

    return types.int64(words, types.intp), codegen


@intrinsic
def release(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """``words[index] = value``, after all that was written before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], address, "release", 8)
        return context.get_dummy_value()

    return types.none(words, types.intp, types.int64), codegen


@jit
def wait_for_all(words, members):
    """Return when every member has come here: False, or True if the team is to stop.

    The last to arrive decides for all whether the team stops: were each to look for itself, one
    could leave and strand the others.
    """
    generation = acquire(words, GENERATION)
    if fetch_add(words, ARRIVED, 1) == members - 1:
        release(words, ARRIVED, 0)
        release(words, CLAIMED, 0)
        release(words, STOPPED, acquire(words, CANCEL))
        release(words, GENERATION, generation + 1)
    else:
        # Without a bound of its own: each member comes here, or fails and sets ABANDONED.
        spins = 0
        while acquire(words, GENERATION) == generation:
            spins += 1
            if spins > _SPINS:
                if acquire(words, ABANDONED):  # a member has failed and will never come
                    return True
                _yield()
    return acquire(words, STOPPED) != 0
