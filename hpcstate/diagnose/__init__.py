"""Why a job failed: what is known of it, the rules that read its logs, and what they come to. What a node
runs of it needs the standard library only."""
