"""A server as a child process: started under a guard, early where that helps, listened to, and ended whole."""
