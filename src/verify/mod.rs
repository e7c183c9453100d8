//! Comparison with tensors stored in a file.
