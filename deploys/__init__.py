"""Which operations, in which order: each file is a deploy of pyinfra's, to be run, not imported."""
