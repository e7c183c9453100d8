//! Bytes → tensors: no file of weights, of PyTorch or safetensors, makes their readers panic, or take memory for what it does not hold.
//!
//! `cargo +nightly fuzz run weights fuzz/corpus/weights tests/golden/weights -- -max_len=100000 -rss_limit_mb=1024`, from the repository.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it takes them");
    let Ok(tensors) = cmae::weights::open(file.path()) else { return };
    for tensor in tensors {
        if let Ok(Some(values)) = tensor.values::<f32>() {
            assert_eq!(values.len(), tensor.elements());
        }
    }
});
