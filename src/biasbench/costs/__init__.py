"""What a plan costs: what its jobs do in counts, what this machine takes for each, and the two together."""
