"""How the documentation is built: ``python -m sphinx -W docs site/html``."""

import fastmnist

project = "fastmnist"
author = copyright = "The fastmnist authors"
release = fastmnist.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_nb"]
html_theme = "pydata_sphinx_theme"
html_title = "fastmnist"
html_show_sphinx = False
html_sidebars = {"**": []}  # there is one level of pages, and it stands at the top

nb_execution_mode = "off"  # the notebook is shown as it ran; a test runs it
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes, ranges
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository, outside of docs/
