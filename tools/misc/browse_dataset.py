"""`mmdet-ft browse`: show the samples of data.train as the network sees them, after their pipeline."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.commands.main import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool('browse')
