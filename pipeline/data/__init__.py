"""The training stream: sample order, shard store, augmentation, loader."""
