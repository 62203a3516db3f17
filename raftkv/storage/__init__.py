"""What a node keeps on its disk: WAL, snapshots, identity, and the real disk below them."""
