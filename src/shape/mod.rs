//! Shapes: every value of a pipeline typed.
