"""Models as programs for other runtimes: ONNX and StableHLO."""
