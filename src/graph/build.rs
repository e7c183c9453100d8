//! Lowers the typed pipeline to graphs.
