"""A server that takes seconds before it reads its first message.

Seen with packages that are installed at their first start, with containers, and with large imports.
"""

import sys
import time

from tests.field.plain import StdioServer

DELAY = 3.0

if __name__ == "__main__":
    time.sleep(DELAY)
    StdioServer(*sys.argv[1:]).run()
