"""Train, evaluate and compare models on entries (the ``train`` extra)."""

# What `export_model` writes; here, so that the command line can show the names at once.
MODEL_FORMATS = SAVED_MODEL, ONNX, LITERT = "saved-model", "onnx", "litert"
