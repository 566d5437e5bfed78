"""Runs that are stopped, hang or fail: detection, report, saving, restart."""
