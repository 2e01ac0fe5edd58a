"""Results that are almost JSON: NaN, a raw control character, a trailing comma, a half surrogate, a cut line.

Seen in servers that build JSON by hand, or with a library that writes NaN.
"""

import sys
from typing import Any

from tests.field.plain import Message, StdioServer, said

FAULTS = {
    "nan": (b'"fault"', b"NaN"),
    "control": (b"fault", b"a\x01b"),
    "comma": (b'"fault"', b'"fault",'),
    "quotes": (b'"fault"', b"'fault'"),
    "cut": (b'fault"}]}}', b""),
    "latin-1": (b"fault", b"caf\xe9"),
}


class Server(StdioServer):
    def tools(self) -> list[Any]:
        return [*super().tools(), self.tool("spoil")]

    def call(self, short: str, arguments: Message) -> Message:
        return said("fault") if short == "spoil" else super().call(short, arguments)

    def write(self, data: bytes) -> None:
        super().write(data.replace(*FAULTS[self.variant]))


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
