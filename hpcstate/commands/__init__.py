"""The subcommands of `hpcstate`: arguments in, one call, words and an exit code out."""
