"""Answers with the request's id as another JSON value: a string, or a number with a fraction.

Servers do so if their language stores ids as strings or as floating-point numbers.
"""

from tests.field.plain import HttpServer, Message


class Server(HttpServer):
    def answer(self, message: Message) -> Message | None:
        answer = super().answer(message)
        if answer is not None and isinstance(answer["id"], int):
            answer["id"] = {"text": str(answer["id"]), "fraction": float(answer["id"])}[self.variant]
        return answer
