"""What the caller says: inputs, devices, dtypes, options; the errors; and descriptions of tensors. Imports only torch."""
