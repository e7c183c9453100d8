//! Evaluation: kNN, feature figures, reconstructions.
