"""A stdio server whose tools have names that belong to others, or that no client can use.

Prefixed names of another server, separators, colons, composed and decomposed letters, differing only in case or in
what is replaced, control characters, names of object members, very long ones with one beginning, the empty one.
"""

import json
import sys

from wire import plain

NAMES = ["banner__echo", "banner:echo", "echo", "ECHO", "__", "a__b", "a b", "a_b", "a/b", "caf\u00e9", "cafe\u0301"]
NAMES += ["__proto__", "constructor", "x" * 200 + "1", "x" * 200 + "2", "", " ", "new\nline", "nul\x00", "\U0001f388"]
NAMES += ["clashing__echo", "..", "-", "%2e", "tools/call", "\u202eevil", "echo", None, 5, ["a"], {"a": 1}]
for line in sys.stdin:
    if reply := plain(json.loads(line), tools=NAMES, call=lambda params: "clashing " + json.dumps(params["name"])):
        print(json.dumps(reply), flush=True)
