"""Decodes what arrives: `decode_request` the messages of agents, `decode_response` those of servers."""

from gateway_core.decoder.messages import decode_request, decode_response
from gateway_core.decoder.passes import MAX_DEPTH, check_depth

__all__ = ["MAX_DEPTH", "check_depth", "decode_request", "decode_response"]
