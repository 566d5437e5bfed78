"""Writing a model as an ONNX file, and proving that the file gives what the model gives."""
