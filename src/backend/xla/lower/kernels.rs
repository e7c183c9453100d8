//! What a program is written for: what a device's compiler computes in its own way.

/// What of its own a device's compiler has beside StableHLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kernels {
    /// cuDNN's attention.
    pub cudnn_attention: bool,
    /// Results of products in bf16 are rounded to it, but those that are gradients of weights; gradients are computed from what
    /// was rounded, so that nothing else of it is stored.
    pub rounds_results: bool,
}

impl Kernels {
    pub const NVIDIA: Kernels = Kernels { cudnn_attention: true, rounds_results: true };

    /// By the name that a client gives its platform.
    pub fn of_platform(name: &str) -> Self {
        if name.eq_ignore_ascii_case("cuda") { Kernels::NVIDIA } else { Kernels::default() }
    }
}
