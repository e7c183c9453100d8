//! Weights that were trained elsewhere: files of other programs, their names, and how they go into a module.
//!
//! Before: a pipeline says `encoder = vit(…) from weights("FILE")`, which is a [`crate::spec::WeightsSpec`]. After: `train` starts a run
//! with an arena that [`load`] has filled; `inspect` lists what a file holds.
//!
//! - [`file`](mod@file): safetensors, by itself or in parts, and checkpoints of PyTorch, as tensors by name, of which none is read yet.
//! - [`pickle`]: what a checkpoint's pickle asks for, before anything is made of it.
//! - [`scheme`]: what other programs call the tensors of a vision transformer; a table of text each, in `schemes/`.
//! - [`guess`]: which of them a file follows, and what stands before its names.
//! - [`fit`]: values as the module has them: joined, resized, over other channels.
//! - [`load`](mod@load): all of it, for a module; what was loaded, resized, missing and passed over, by name.
//!
//! **Invariant:** nothing that a file holds is run, and no memory is taken for what it does not hold.

pub mod error;
pub mod file;
pub mod fit;
pub mod guess;
pub mod load;
pub mod pickle;
pub mod scheme;

pub use error::WeightsError;
pub use file::{ForeignTensor, open};
pub use guess::{Guess, guess};
pub use load::{Loaded, load};
