"""The thin daemon, its settings and its services: paper or live, never a rule of its own."""
