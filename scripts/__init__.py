"""The commands, each thin: flags, one call, output."""
