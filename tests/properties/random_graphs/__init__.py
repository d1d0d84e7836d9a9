"""Random valid ONNX models: a builder, families of operators, the strategy, and how the product judges them."""
