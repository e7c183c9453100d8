//! The `xla` backend: it runs in others' tests (op pages, drawn graphs, references) where a PJRT plugin is there.
//!
//! ```text
//! pip install --no-deps lammps-jax-pjrt-cpu==0.11.2
//! CMAE_PJRT_PLUGIN=FILE cargo test --test it
//! ```
//! FILE is the wheel's `lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so`. Without one they go without it, and say so.

use std::sync::Once;

/// The backend's name, where it can run here.
pub fn backend() -> Option<&'static str> {
    static SAID: Once = Once::new();
    if std::env::var_os("CMAE_PJRT_PLUGIN").is_some() {
        return Some("xla");
    }
    SAID.call_once(|| {
        println!(
            "skipped: the xla backend, for want of a PJRT plugin (help: pip install --no-deps lammps-jax-pjrt-cpu==0.11.2, then \
             CMAE_PJRT_PLUGIN=FILE)"
        );
    });
    None
}
