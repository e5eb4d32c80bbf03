"""What the deploys share, and those of a site may import."""
