//! The `dfdx` backend.
