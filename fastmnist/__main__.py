"""``python -m fastmnist``."""

import sys

from fastmnist.cli import main

sys.exit(main())
