"""Models as ONNX files, and running them with numpy, OpenCV and onnxruntime alone.

`Detector` and `Classifier` run a file; nothing here but `mmdet_ft.deploy.export` imports torch.
"""
from mmdet_ft.deploy.runtime import Classifier, Detector

__all__ = ['Classifier', 'Detector']
