"""Exports models: as ONNX files (graphs, convert), and generators as web pages that run them (runtime, page)."""
