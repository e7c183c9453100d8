//! Evaluation: what a run's features and reconstructions are worth.
//!
//! Before: `train` (or a checkpoint) gives parameters, `data` gives batches. After: `run` logs and draws the figures.
//! [`quality`] judges features by [`knn`] and [`collapse`], [`features`] makes and writes them, [`map`] puts them in a plane,
//! [`pictures`] draws reconstructions,
//! [`export`] writes a module's weights.
//!
//! **Invariant:** nothing here changes parameters; the model is seen only through `Backend<E>` and slices.

pub mod collapse;
pub mod export;
pub mod features;
pub mod knn;
pub mod map;
pub mod pictures;
pub mod quality;

pub use features::Features;
pub use map::FeatureMap;
pub use quality::{Judge, LeftOut, Named, Quality};
