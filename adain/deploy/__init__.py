"""Deployment: the web page and ONNX export."""
