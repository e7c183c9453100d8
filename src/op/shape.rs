//! Shape rules of the ops.
