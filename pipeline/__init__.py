"""From shards to a measured network: the data stream, the trainer, the evaluation."""
