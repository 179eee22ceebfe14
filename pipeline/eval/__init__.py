"""Evaluation and prediction: metrics, truth, baselines, pictures."""
