//! Data: sources, decoding, views, and the loader that keeps batches ready.

pub mod batch;
pub mod decode;
pub mod error;
pub mod evaluation;
pub mod image;
pub mod label_map;
pub mod loader;
pub mod mask;
pub mod pack;
pub mod random;
pub mod rate;
pub mod rng;
pub mod sample;
pub mod shown;
pub mod source;
pub mod survey;
mod unknown_classes;
pub mod view;

pub use error::DataError;
pub use image::Image;
pub use label_map::LabelMap;
