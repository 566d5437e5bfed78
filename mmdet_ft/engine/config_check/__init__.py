"""The whole config against signatures, before anything is built; begin with check.py."""
