"""`${…}` in the values of a configuration: filled in, converted to the type of the key, or missing."""
