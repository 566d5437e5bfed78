"""`mmdet-ft convert label_studio`: turn an export of Label Studio (JSON or JSON-MIN) into a COCO json."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.commands.main import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool('convert label_studio')
