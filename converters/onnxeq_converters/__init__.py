"""The converters that come with onnxeq: one sub-package per framework, each loaded only inside a job."""
