"""Which connection a call gets, and how many calls run at a time."""
