"""Links to the other members of the cluster: authenticated, framed, bounded."""
