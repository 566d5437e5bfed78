"""The whole config against signatures and facts, before anything is built; begin with check.py."""
