"""A client with odd ids, params and progress tokens; prints each answer's status, id and outcome, as JSON."""

import json
import sys

from wire import begin, http

PORT = int(sys.argv[1])
SESSION = begin(PORT, "2025-11-25")


def post(text):
    status, _, got = http(PORT, text.encode("utf-8", "surrogatepass"), headers=SESSION)
    last = got[-1] if isinstance(got, list) and got else got
    notes = [one["params"] for one in got if "method" in one] if isinstance(got, list) else []
    if not isinstance(last, dict):
        return [status, last, None, notes]
    return [status, last.get("id", "absent"), last.get("result", last.get("error")), notes]


def call(ident, params):
    return post(f'{{"jsonrpc":"2.0","id":{ident},"method":"tools/call","params":{params}}}')


ECHO = '{"name":"banner:echo","arguments":{"a":1}}'
got = {"ids": {}, "params": {}, "tokens": {}, "arguments": {}}
for ident in ("0", "-1", "9007199254740993", "123456789012345678901234567890", "1.5", "1.0", "1e2", '""', '"\\u0000é"'):
    got["ids"][ident] = call(ident, ECHO)
for ident in ("null", "true", "[]", "{}", '"\\ud800"', '"' + "x" * 3000 + '"'):
    got["ids"][ident[:20]] = call(ident, ECHO)
for params in ("null", "[]", '"x"', "{}", '{"name":null}', '{"name":"banner:echo","arguments":null}'):
    got["params"][params] = call(1, params)
for params in (
    '{"name":"banner:echo","arguments":[]}',
    '{"name":"banner:echo","arguments":"x"}',
    '{"name":"banner:echo"}',
):
    got["params"][params] = call(1, params)
for token in ("0", '""', "1.5", "null", "true", "{}", "123456789012345678901234567890", '"é\\u2028"', '"\\ud800"'):
    got["tokens"][token] = call(1, ECHO[:-1] + f',"_meta":{{"progressToken":{token}}}}}')
for value in (
    "123456789012345678901234567890",
    "-0",
    "1.0",
    "1e400",
    '"\\u2028\\u0000\\ud83c\\udf88"',
    '"\\ud800"',
    '{"é":"\\u007f"}',
):
    got["arguments"][value] = call(1, ECHO.replace("1}", value + "}"))
print(json.dumps(got))
