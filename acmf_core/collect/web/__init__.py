"""Services of the web that nobody vouches for: their answers within a time and a size."""
