"""`mmdet-ft upgrade_model_version`: write a checkpoint of any kind under MMDetection 2's names."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.commands.main import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool('upgrade_model_version')
