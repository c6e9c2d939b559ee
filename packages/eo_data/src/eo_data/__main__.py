"""`python -m eo_data` is `eo-data`."""

import sys

from eo_data.cli import main

sys.exit(main())
