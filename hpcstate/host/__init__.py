"""This machine before anything of hpcstate's runs: its packages, its tools, its Python environment."""
