"""What operations share; none of it is an operation."""
