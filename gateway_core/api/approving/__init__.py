"""Questions whether a call may be made: their text, and what is remembered of the answers."""
