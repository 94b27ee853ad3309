"""The commands: each defines its flags, calls the packages once, and prints the results."""
