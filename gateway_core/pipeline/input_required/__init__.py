"""Calls that take several **rounds**, because the server has a question in the middle (basic/patterns/mrtr).

Agents and servers of either era ask and answer in their own way; `Rounds.send` carries one request to one upstream and
sees to the questions in between:

| agent | upstream | what becomes of a question |
|---|---|---|
| legacy | legacy | it reaches the agent as a request while the call goes on (`upstream/questions.py`) |
| legacy | modern | the agent is asked, and the request repeated with its answers (`relay.py`) |
| modern | modern | it passes, with the state that the agent must bring back sealed (`relay.py`, `states.py`) |
| modern | legacy | the call is **parked**: the agent gets `input_required`, its retry wakes the call (`parking.py`) |
"""

from gateway_core.pipeline.input_required.carrier import Rounds
from gateway_core.pipeline.input_required.request_states import State

__all__ = ["Rounds", "State"]
