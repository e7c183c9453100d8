//! Checks the invariants of graphs.
