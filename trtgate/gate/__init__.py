"""The pull-request gate: runs both sides and asks judge for the verdict."""
