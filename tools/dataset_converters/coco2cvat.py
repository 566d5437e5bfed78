"""`mmdet-ft convert coco2cvat`: turn a COCO json into CVAT's own xml ('CVAT for images 1.1'), which CVAT imports."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.commands.main import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool('convert coco2cvat')
