"""The notebook with Kaggle's files; ``pytest --nbmake examples`` runs it without them."""

from pathlib import Path

import numpy as np
import pytest

from fastmnist import datasets

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

pytestmark = pytest.mark.compiled

NOTEBOOK = Path(__file__).parent.parent / "examples" / "mnist_from_scratch.ipynb"


@pytest.mark.filterwarnings("ignore")  # those of Jupyter
def test_on_kaggle_it_writes_a_submission(tmp_path):
    train, test = datasets.generate(4000, seed=0), datasets.generate(500, seed=1)
    header = ",".join(f"pixel{k}" for k in range(784))
    labelled = np.column_stack([train.labels, train.images.reshape(4000, -1)])
    options = {"fmt": "%d", "delimiter": ",", "comments": ""}
    np.savetxt(tmp_path / "train.csv", labelled, header=f"label,{header}", **options)
    np.savetxt(tmp_path / "test.csv", test.images.reshape(500, -1), header=header, **options)
    source = NOTEBOOK.read_text(encoding="utf-8")
    assert "/kaggle/input/digit-recognizer" in source
    notebook = nbformat.reads(source.replace("/kaggle/input/digit-recognizer", str(tmp_path)), 4)
    options = {"timeout": 250, "resources": {"metadata": {"path": str(tmp_path)}}}

    nbclient.NotebookClient(notebook, **options).execute()

    first, *rows = (tmp_path / "submission.csv").read_text("utf-8").splitlines()
    assert first == "ImageId,Label"
    numbers, predicted = np.array([row.split(",") for row in rows], int).T
    np.testing.assert_array_equal(numbers, np.arange(1, 501))
    assert (predicted == test.labels).mean() > 0.9
