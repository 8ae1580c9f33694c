"""The built-in mitigation methods."""
