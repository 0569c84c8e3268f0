"""What this machine is, and whether it can be trusted to measure."""
