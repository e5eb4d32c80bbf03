"""What is: shell commands that look at a host once, and pure parsers of what they print.

The facts run the commands on nodes; the command line runs them on the local host (``local``). No command asks
for root by itself, none exits with an error where the thing it looks for is absent.
"""
