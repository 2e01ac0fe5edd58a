"""Messages that servers send without being asked, or malformed, or too many."""
