"""`python -m eo_models` is `eo-models`, for launchers that take a module: `torchrun -m eo_models train ...`."""

import sys

from eo_models.cli import main

sys.exit(main())
