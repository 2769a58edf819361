"""The command line, and everything that prints or changes the process."""
