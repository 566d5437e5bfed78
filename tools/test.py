"""`mmdet-ft test`: test a trained model: evaluate, write, format or draw its results."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))  # the package beside this folder

from mmdet_ft.commands.main import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool('test')
