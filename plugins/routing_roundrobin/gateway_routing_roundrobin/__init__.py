"""Gateway plugin `routing_roundrobin`: calls rotate over all upstreams that have the tool."""
