"""What web browsers need: the headers of cross-origin requests, and a page for people."""
