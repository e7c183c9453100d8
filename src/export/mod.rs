//! What was trained, for use elsewhere: weights under other libraries' names, and what the features are computed by as ONNX.
//!
//! Before: a checkpoint gives the arena, `graph` what is computed with it. After: timm, transformers, facebookresearch/mae, and whatever runs
//! ONNX. `weights` reads the same names the other way, by the same tables.
//!
//! - [`module`]: the tensors of a module, and the file that timm loads.
//! - [`network`], [`decoder`]: which vision transformer a module is, and what reconstructs pictures of its tokens.
//! - [`timm`], [`transformers`], [`mae`]: what these call it; [`folder`] is what transformers loads, with [`preprocess`] and [`card`].
//! - [`onnx`]: the graph of the features for a batch of any size.
//!
//! **Invariant:** no method is known here: what a module is, is read off its tensors and the graphs.

pub mod card;
pub mod decoder;
mod error;
pub mod folder;
pub mod mae;
pub mod module;
pub mod network;
pub mod onnx;
pub mod preprocess;
mod timm;
pub mod transformers;

pub use error::ExportError;
pub use module::{Format, Written, tensors};
