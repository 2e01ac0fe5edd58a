"""A server without oddities, to compare the others with and to stand behind odd clients."""

from tests.field.plain import HttpServer


class Server(HttpServer):
    pass
