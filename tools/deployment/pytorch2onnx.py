"""`mmdet-ft pytorch2onnx`: write a trained model as an ONNX file, and prove that both give the same."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.commands.main import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool('pytorch2onnx')
