"""Beyond one machine: searches and data-parallel training, on Dask's distributed scheduler.

The engine is embedded by default, and a cluster by giving its address:

>>> import fastmnist as fm
>>> with fm.distributed.connect("local:2") as client:  # or "tcp://scheduler:8786"
...     digits = fm.distributed.Drawn(2000)
...     model = fm.MLP([784, 128, 10])
...     history = fm.distributed.fit(model, digits, client, shards=2, rounds=3)
>>> len(history)
3

Every task is a pure function of its arguments, so a worker that is lost or joins late costs time,
and changes no bit of a result.
"""

try:
    from fastmnist.distributed.cluster import connect
    from fastmnist.distributed.local_sgd import fit
    from fastmnist.distributed.searching import Found, search
    from fastmnist.distributed.sources import Drawn, Folder
    from fastmnist.distributed.study import Trial
    from fastmnist.distributed.varied import Range
except ImportError as error:
    raise ImportError(
        f'{error}; it comes with pip install "fastmnist[distributed]"', name=error.name
    ) from error

__all__ = ["Drawn", "Folder", "Found", "Range", "Trial", "connect", "fit", "search"]
