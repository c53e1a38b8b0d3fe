"""Headlines as untrusted data: fetched, cleaned, scored within a budget, judged."""
