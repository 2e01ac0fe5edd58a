"""An HTTP/1.0 server: no Content-Length, the end of the connection ends the answer, header names in capitals."""

import json

from wire import plain, serve


def handle(sock, start, headers, message):
    if not start.startswith("POST"):
        sock.sendall(b"HTTP/1.0 501 Unsupported method\r\nCONTENT-TYPE: text/html\r\n\r\n<h1>no</h1>")
    elif (reply := plain(message)) is None:
        sock.sendall(b"HTTP/1.0 200 OK\r\nSERVER: old\r\n\r\n")
    else:
        sock.sendall(b'HTTP/1.0 200\r\nCONTENT-TYPE:APPLICATION/JSON;CHARSET="UTF-8"\r\n\r\n')
        sock.sendall(b"\n\n " + json.dumps(reply).encode() + b"\r\n\r\n")
    return True


serve(handle)
