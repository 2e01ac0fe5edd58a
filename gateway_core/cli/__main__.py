"""`python -m gateway_core.cli` runs `rad`; `start --detach` uses it to start the gateway in the background."""

import sys

from gateway_core.cli import main

sys.exit(main())
