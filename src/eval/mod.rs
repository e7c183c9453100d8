//! Evaluation: what a run's features and reconstructions are worth.
//!
//! Before: `train` (or a checkpoint) gives parameters, `data` gives batches. After: `run` logs and draws the figures.
//! [`judge`] judges features by [`knn`], by [`probes`] ([`linear`], [`logistic`]) and by [`collapse`], of the pictures that are
//! [`chosen`]; [`quality`] is what it finds; [`classifier`] and [`classify`] judge logits, [`segmenter`] and [`segment`]
//! classes of pixels. [`features`] makes them, [`feature_file`] writes them, [`pixels`] is what they have to beat, [`shared`] lets ranks share the pictures, [`map`] puts features in a plane, [`pass`] tells who waits,
//! [`pictures`] draws reconstructions, [`neighbours`] pictures whose features are near, [`looks`] what becomes of patches,
//! [`segment_sheet`] classes of pixels, [`sheet`] contact sheets with the masks that [`hidden`] makes.
//!
//! **Invariant:** nothing here changes parameters; the model is seen only through `Backend<E>` and slices.

pub mod chosen;
pub mod classifier;
pub mod classify;
pub mod collapse;
pub mod feature_file;
pub mod features;
pub mod hidden;
pub mod judge;
pub mod knn;
pub mod linear;
pub mod logistic;
pub mod looks;
pub mod map;
pub mod neighbours;
pub mod pass;
pub mod pictures;
pub mod pixels;
mod principal;
mod probes;
pub mod quality;
pub mod segment;
pub mod segment_sheet;
pub mod segmenter;
pub mod shared;
pub mod sheet;

pub use chosen::Named;
pub use classifier::Classifier;
pub use classify::Classified;
pub use features::Features;
pub use judge::Judge;
pub use map::FeatureMap;
pub use pass::{Look, Pass};
pub use quality::Quality;
pub use segment::Segmented;
pub use segmenter::Segmenter;
pub use shared::LeftOut;
