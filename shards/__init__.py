"""Offline: from a raw collection of pictures to tar shards with ordinal labels."""
