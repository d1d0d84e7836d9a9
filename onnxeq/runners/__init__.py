"""What runs inside job processes: the native side, onnxruntime, the referee, the normaliser."""
