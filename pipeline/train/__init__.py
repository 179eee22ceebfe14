"""The trainer: loop, checkpoints, session and monitor."""
