"""`python -m engine.simulator`."""

import sys

from engine.simulator.main import main

sys.exit(main())
