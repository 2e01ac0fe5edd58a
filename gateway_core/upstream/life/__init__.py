"""The life of one server: when it is needed, checked and stopped."""
