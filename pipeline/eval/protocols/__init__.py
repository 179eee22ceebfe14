"""How a prediction is judged, one protocol a file."""
