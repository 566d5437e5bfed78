"""Devices, precision, and optimizations of a step that do not change results beyond rounding."""
