"""The report of a run: one HTML page that needs nothing else, made from whatever the run folder holds."""
