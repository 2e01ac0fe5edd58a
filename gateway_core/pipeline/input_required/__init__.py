"""Calls with several **rounds**, in which the server asks questions (basic/patterns/mrtr).

Each era has its own way to ask and answer. `InputRequired.send` sends a request and handles the questions:

| agent | upstream | handling of a question |
|---|---|---|
| legacy | legacy | it reaches the agent as a request during the call (`upstream/messages/questions.py`) |
| legacy | modern | the agent is asked, and the request repeated with its answers (`relay.py`) |
| modern | modern | it is passed on, with the request state sealed (`carrier.py`, `request_states.py`) |
| modern | legacy | the call is **parked**: the agent gets `input_required`, its retry resumes the call (`parking.py`) |

Questions of plugins come before the call goes to an upstream (`plugin_questions.py`).
"""

from gateway_core.pipeline.input_required.carrier import InputRequired
from gateway_core.pipeline.input_required.plugin_questions import Round
from gateway_core.pipeline.input_required.request_states import State

__all__ = ["InputRequired", "Round", "State"]
