"""What to change: pyinfra operations. Each is fact, difference, change or noop."""
