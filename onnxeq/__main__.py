"""``python -m onnxeq``: the command line without its script."""

from onnxeq.cli.main import main

main()
