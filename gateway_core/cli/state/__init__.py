"""Files that tell about a running gateway: where they are, and who holds them."""
