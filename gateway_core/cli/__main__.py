"""`python -m gateway_core.cli` is `rad`: how a gateway starts itself again in the background."""

import sys

from gateway_core.cli import main

sys.exit(main())
