"""Entry points: `python -m launch.NAME`, or `depthrank NAME`. Wiring only; the work is done below."""

__all__ = ["__version__"]

__version__ = "0.1.0"
