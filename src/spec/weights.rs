//! What modules begin with that were trained elsewhere.

use serde::{Deserialize, Serialize};

/// `encoder = vit(…) from weights("FILE", names: …, prefix: …, missing: […], unexpected: […])`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsSpec {
    /// Path of the module: `encoder`.
    pub module: String,
    /// Path of the file, as written.
    pub file: String,
    /// Name of the scheme that the file's tensors are named by; `auto` tells it by the names themselves.
    pub names: String,
    /// What stands before the names of the module's tensors in the file; found where it is not given.
    pub prefix: Option<String>,
    /// Patterns of tensors of the module that the file need not hold.
    pub missing: Vec<String>,
    /// Patterns of tensors of the file, without the prefix, that the module need not have.
    pub unexpected: Vec<String>,
}

/// The word for names that are guessed.
pub const AUTO_NAMES: &str = "auto";
