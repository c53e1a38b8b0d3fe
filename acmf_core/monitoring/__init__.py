"""Layer 6: what a person is told, and when."""
