"""Something else than JSON-RPC on standard output: a banner, a byte order mark, log lines between the answers.

Seen with frameworks that greet, with runtimes on Windows, and with libraries that print.
"""

import sys

from tests.field.plain import StdioServer

BEFORE = {
    "banner": b"Starting server v1.2 ...\nListening on stdio\n",
    "bom": b"\xef\xbb\xbf",
    "blank-lines": b"\n\r\n\n",
    "colours": b"\x1b[32mINFO\x1b[0m ready \xff\xfe\n",
    "json-log": b'{"level":"info","msg":"ready"}\n[]\n"text"\n5\nnull\n',
}


class Server(StdioServer):
    def write(self, data: bytes) -> None:
        match self.variant:
            case "between":
                super().write(b"DEBUG: answering\n" + data + b"DEBUG: answered\n")
            case "crlf":
                super().write(data.replace(b"\n", b"\r\n"))
            case "pieces":
                for place in range(0, len(data), 7):
                    super().write(data[place : place + 7])
            case _:
                super().write(data)


if __name__ == "__main__":
    server = Server(*sys.argv[1:])
    StdioServer.write(server, BEFORE.get(server.variant, b""))
    server.run()
