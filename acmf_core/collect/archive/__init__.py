"""The exchange's public archive: its files fetched, verified and read."""
