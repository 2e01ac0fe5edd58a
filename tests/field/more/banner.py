"""A stdio server that prints: a banner, colours, a BOM, JSON that is no message, CRLF ends, blank lines, laid-out JSON.

During a call it prints a progress bar with bare CR in front of its answer, in the same line.
"""

import json
import sys

from wire import plain

OUT = sys.stdout.buffer
OUT.write('\ufeff\x1b[32m*** Odd server ***\x1b[0m\r\n\r\n{"level":"info"}\r\n[]\n7\nnull\n"hi"\n'.encode())
OUT.write(b'\xff\xfe not UTF-8\n{\n "jsonrpc": "2.0"\n}\n')
for line in sys.stdin:
    if (reply := plain(json.loads(line), tools=("echo", "bar"))) is None:
        continue
    text = json.dumps(reply).encode() + b"\r\n"
    if '"bar"' in line:
        OUT.write(b"10%\r20%\r100%\n")
    OUT.write(b"\r\n" + text + b"\n")
    OUT.flush()
