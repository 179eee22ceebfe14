"""The study: does ranking from web stereo work, and how well? Which runs, what they scored, what that shows."""
