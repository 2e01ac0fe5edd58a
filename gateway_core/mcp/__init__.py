"""The protocol without I/O: names, JSON-RPC, the decoder, header values, cache hints."""
