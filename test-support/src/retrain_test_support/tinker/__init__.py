"""A Tinker service in the process of a test."""
