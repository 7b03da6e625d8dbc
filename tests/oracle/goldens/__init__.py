"""Makers of the golden files, one module a kind."""
