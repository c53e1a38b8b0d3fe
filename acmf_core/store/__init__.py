"""Durable memory: what the daemon saw, decided and did, on SQLite or PostgreSQL."""
