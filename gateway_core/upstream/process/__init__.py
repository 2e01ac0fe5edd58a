"""Servers as child processes: started under a guard, some during start-up, and ended with their process group."""
