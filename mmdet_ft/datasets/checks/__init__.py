"""What is wrong with data before it costs a night: the checks behind tools/misc/check_data.py."""
