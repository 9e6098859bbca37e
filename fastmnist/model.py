"""The multi-layer perceptron: sizes, parameters, predict, save and load."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import archive, checks, exchange, reference
from fastmnist.backends import backend_named
from fastmnist.errors import ModelFileError
from fastmnist.files import atomic_write
from fastmnist.parameters import Parameters, bytes_of

_MOST_BYTES = 2**33  # 8 GiB of parameters; a mistyped size fails before anything is allocated
_SEED_LIMIT = 2**63 - 1
_FEW = 64  # images; for fewer, NumPy's products take less time than loading Numba and the kernels


class MLP:
    """A multi-layer perceptron: ReLU in the hidden layers, softmax at the end.

    Weights are drawn from a normal distribution of standard deviation sqrt(2 / inputs), which
    keeps the activations' variance from layer to layer under ReLU; biases are 0.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units in each hidden layer (none is fine), classes: ``[784, 128, 10]``.
    seed : int
        From 0 to 2**63 - 1, of any integer type. Same seed, same weights.

    Attributes
    ----------
    sizes : tuple of int
    params : list of (W, b)
        float32; W of shape (inputs, outputs), b (outputs,). Views: changing them changes the model.

    Raises
    ------
    TypeError, ValueError
        If a size is not a whole number from 1, or there are fewer than two.

    References
    ----------
    He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", equation 12.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int = 0) -> None:
        self._params = Parameters(_checked(sizes))
        generator = np.random.default_rng(checks.whole("seed", seed, 0, _SEED_LIMIT))
        for W, _ in self._params:
            W[...] = generator.standard_normal(W.shape) * np.sqrt(2 / len(W))

    @classmethod
    def uniform(
        cls, sizes: Sequence[int], *, low: float = -0.5, high: float = 0.5, seed: int = 0
    ) -> MLP:
        """A network whose weights and biases are all uniform in [low, high)."""
        model = cls(sizes, seed=seed)
        generator = np.random.default_rng(seed)
        for layer, (W, b) in enumerate(model.params):
            model.params[layer] = (
                generator.uniform(low, high, W.shape),
                generator.uniform(low, high, b.shape),
            )
        return model

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, units in each hidden layer, classes."""
        return self._params.sizes

    @property
    def params(self) -> Parameters:
        """A list of (W, b), one per layer."""
        return self._params

    @params.setter
    def params(self, params: Sequence[tuple[ArrayLike, ArrayLike]]) -> None:
        self._params.assign(params)

    def __repr__(self) -> str:
        return f"MLP({list(self.sizes)})"

    def predict(
        self, X: ArrayLike, *, backend: str = "auto", threads: int | None = None
    ) -> NDArray[np.int64]:
        """The most probable class of each image.

        Parameters
        ----------
        X : array_like of shape (n, features) or (n, height, width)
            uint8 pixels, scaled by 1/255, or floats, taken as they are.
        backend : {"auto", "numba", "reference"}
            As `fastmnist.fit` takes it; "auto" leaves a few images to NumPy until the kernels are
            loaded.
        threads : int, optional
            By default as many as this process may use.

        Returns
        -------
        ndarray of int64, shape (n,)

        Raises
        ------
        TypeError, ValueError
            If `X` does not hold finite real numbers, does not fit the network, or is so large that
            the outputs overflow.
        """
        X, module = self._ready(X, backend, threads)
        with np.errstate(over="ignore", invalid="ignore"):
            Z = module.logits(self.params, X, threads=threads)
        classes: NDArray[np.int64] = _finite(Z).argmax(axis=1)
        return classes

    def predict_proba(
        self, X: ArrayLike, *, backend: str = "auto", threads: int | None = None
    ) -> NDArray[np.float32]:
        """The probability of each class, shape (n, classes); arguments as of `predict`."""
        X, module = self._ready(X, backend, threads)
        with np.errstate(over="ignore", invalid="ignore"):
            P: NDArray[np.float32] = module.forward(self.params, X, threads=threads)
        return _finite(P)

    def _ready(
        self, X: ArrayLike, backend: str, threads: int | None
    ) -> tuple[NDArray[Any], ModuleType]:
        """`X`, checked, and the backend; of "auto", the one that is done with it sooner.

        Once the kernels are there, that is theirs for any number (one image: 0.8 of the time).
        """
        X = checks.images(X, self.sizes[0])
        if threads is not None:
            checks.whole("threads", threads, 1)
        if backend == "auto" and len(X) < _FEW and "fastmnist.kernels" not in sys.modules:
            return X, reference
        return X, backend_named(backend)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to `path`, an .npz file with a checksum of its content.

        Or, if that is its ending, a .safetensors or .onnx file (`fastmnist.exchange`). The file is
        complete or not there at all: it is written under a temporary name first.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there before is then unchanged.
        ValueError
            If a parameter is NaN or infinite: such a file would not load.
        ImportError
            If the format needs a package that is not installed.
        """
        if not np.isfinite(self.params.flat).all():
            raise ValueError("the parameters hold NaN or infinite numbers; the model is not saved")
        ending = os.path.splitext(path)[1].lower()
        if ending in (".safetensors", ".onnx"):
            pack = exchange.to_onnx if ending == ".onnx" else exchange.to_safetensors
            content = pack(self.params)
            with atomic_write(path) as file:
                file.write(content)
        else:
            archive.write(path, {"sizes": self.sizes}, arrays_of(self.params))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MLP:
        """Read a model that `save` has written: .npz, or .safetensors by its ending.

        Of a checkpoint of `fastmnist.fit`, it is the model as of the last whole epoch. Nothing in
        the file is executed. An .onnx file is for other tools.

        Raises
        ------
        ModelFileError
            If the file cannot be read, is damaged, of a newer version, or no model.
        ImportError
            If the format needs a package that is not installed.
        """
        ending = os.path.splitext(path)[1].lower()
        if ending == ".onnx":
            raise ModelFileError(f"{path}: .onnx files are not read; load the .npz or .safetensors")
        if ending == ".safetensors":
            return cls._from_layers(path, archive.read_bytes(path))
        header, arrays = archive.read(path)
        model = cls.__new__(cls)
        model._params = params_in(arrays, sizes_in(header, path), path)
        if arrays and "training" not in header:  # else a checkpoint, which holds more
            raise ModelFileError(
                f"{path}: holds arrays that a model {list(model.sizes)} does not have: "
                f"{sorted(arrays)[:3]}"
            )
        return model

    @classmethod
    def _from_layers(cls, path: Any, content: bytes) -> MLP:
        try:
            layers = exchange.from_safetensors(content)
            _checked((len(layers[0][0]), *(len(b) for _, b in layers)))
        except ImportError:
            raise
        except Exception as error:  # a parser's own exceptions
            raise ModelFileError(f"{path}: not a network in safetensors: {error}") from error
        for layer, (W, b) in enumerate(layers):
            for name, array in (("weight", W), ("bias", b)):
                key = f"{2 * layer}.{name}"
                _check_array(path, {key: array}, key, array.shape)
        model = cls.__new__(cls)
        model._params = Parameters.copy_of(layers)
        return model


def _finite(outputs: NDArray[Any]) -> NDArray[Any]:
    """`outputs`, if none of them has overflowed."""
    if not np.isfinite(outputs).all():
        raise ValueError("the network's outputs are not finite; scale X to about 1")
    return outputs


def _checked(sizes: Any) -> tuple[int, ...]:
    if isinstance(sizes, (str, bytes)) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"sizes must be a list such as [784, 128, 10], got {sizes!r}")
    checked = tuple(checks.whole("each of sizes", size, 1) for size in sizes)
    if len(checked) < 2:
        raise ValueError(f"sizes must name the inputs and the classes at least, got {sizes!r}")
    if (needed := bytes_of(checked)) > _MOST_BYTES:
        raise ValueError(
            f"sizes {list(checked)} need {needed:,} bytes of parameters, "
            f"the most are {_MOST_BYTES:,}; take smaller layers"
        )
    return checked


def arrays_of(params: Parameters, prefix: str = "") -> archive.Arrays:
    """Parameters under the names that they have in a file: W0, b0, W1, ..."""
    return {
        f"{prefix}{kind}{layer}": array
        for layer, pair in enumerate(params)
        for kind, array in zip("Wb", pair, strict=True)
    }


def params_in(
    arrays: archive.Arrays, sizes: tuple[int, ...], path: Any, prefix: str = ""
) -> Parameters:
    """Parameters of these sizes, taken out of the arrays of a file."""
    layers = []
    for layer, (n, m) in enumerate(pairwise(sizes)):
        W, b = f"{prefix}W{layer}", f"{prefix}b{layer}"
        _check_array(path, arrays, W, (n, m))
        _check_array(path, arrays, b, (m,))
        layers.append((arrays.pop(W), arrays.pop(b)))
    return Parameters.copy_of(layers)  # memory is asked for only now: `sizes` may be anything


def sizes_in(header: dict[str, Any], path: Any) -> tuple[int, ...]:
    """The layer sizes that the header of a file tells."""
    try:
        return _checked(header["sizes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: not a readable fastmnist file: {error}") from error


def _check_array(path: Any, arrays: dict[str, Any], name: str, shape: tuple[int, ...]) -> None:
    if name not in arrays:
        raise ModelFileError(f"{path}: array {name!r} is missing")
    found = arrays[name]
    if found.shape != shape or found.dtype.newbyteorder("=") != np.float32:
        raise ModelFileError(
            f"{path}: array {name!r} is {found.dtype} of shape {found.shape}, "
            f"wanted float32 of shape {shape}"
        )
    if not np.isfinite(found).all():
        raise ModelFileError(f"{path}: array {name!r} holds NaN or infinite numbers")
