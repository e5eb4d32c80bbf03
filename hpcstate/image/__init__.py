"""Images of nodes: declared, their seeds, and what Packer makes of them."""
