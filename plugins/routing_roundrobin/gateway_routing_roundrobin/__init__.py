"""Gateway plugin `routing_roundrobin`: rotates calls over all upstreams that have the tool."""
