"""fastmnist beside what people would use instead: ``python -m benchmarks.peers``.

The same networks on the same images in the same order, float32, plain SGD, the same batch and
number of threads. Each library is used the way its own experts would use it for speed, PyTorch also
the way most people do. Each runs in a process of its own (their thread pools do not mix), and all
must reach the same loss before any is timed. Then they take turns.

Nothing here is imported before it is needed: whoever has only some of the peers compares those.
"""

from __future__ import annotations

# What runs: a name for people, and the function that prepares it. In the order of the tables.
CONTENDERS = {
    "fastmnist kernels": "with_fastmnist:kernels",
    "fastmnist reference": "with_fastmnist:reference",
    "PyTorch, usual": "with_pytorch:usual",
    "PyTorch eager": "with_pytorch:eager",
    "PyTorch compiled": "with_pytorch:compiled",
    "JAX": "with_jax:scanned",
    "scikit-learn": "with_scikit_learn:partial_fit",
}
KERNELS = "fastmnist kernels"
OURS = (KERNELS, "fastmnist reference")
# Not the fastest way of a library, so not a peer to be measured against, but shown beside them.
SHOWN_ONLY = ("PyTorch, usual",)
