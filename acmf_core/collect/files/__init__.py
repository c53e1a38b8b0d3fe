"""Files that people bring: recognised, read, checked, stored."""
