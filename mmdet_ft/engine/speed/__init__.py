"""Devices, precision, and what makes a step faster without changing results beyond rounding."""
