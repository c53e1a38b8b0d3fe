"""Research on top of the core: portfolios, walk-forward, tuning, evidence, reports."""
