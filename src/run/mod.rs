//! Run folders, checkpoints, metrics.
