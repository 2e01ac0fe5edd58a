"""Answers whose id is another JSON value than the one that was sent: a text, or a number with a fraction.

Seen in servers whose language keeps ids as text or as floating-point numbers.
"""

from tests.field.plain import HttpServer, Message


class Server(HttpServer):
    def answer(self, message: Message) -> Message | None:
        answer = super().answer(message)
        if answer is not None and isinstance(answer["id"], int):
            answer["id"] = {"text": str(answer["id"]), "fraction": float(answer["id"])}[self.variant]
        return answer
