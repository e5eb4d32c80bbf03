"""``python -m hpcstate``."""

from __future__ import annotations

import sys

from hpcstate.cli import main

sys.exit(main())
