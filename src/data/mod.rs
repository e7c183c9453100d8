//! Data: sources, decoding, views, and the loader that keeps batches ready.

pub mod error;
pub mod image;
pub mod rng;
pub mod source;
pub mod view;

pub use error::DataError;
pub use image::Image;
