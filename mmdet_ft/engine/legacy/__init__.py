"""Older spellings: of configs, of V2 user code, and of functions for scripts."""
