"""The commands with their options and help, by what they are about. Each imports its own module when it runs."""
