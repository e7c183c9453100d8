//! No file of weights brings its reader down: mutations of checkpoints of PyTorch and of safetensors files, opened and read to their end.

use std::path::Path;

use crate::{HELD, MOST, Noise, mutated};

/// Memory beside what hangs on the file: tables of the archive's reader, buffers.
const ASIDE: usize = 1 << 20;
/// Bytes for each byte of the file: an operation of a pickle is one, and the value that it makes some hundred.
const EACH: usize = 256;

fn samples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/weights");
    let names =
        ["timm_vit.pth", "timm_vit_legacy.pth", "timm_vit_bf16.bin", "mae.pth", "timm_vit.safetensors", "attack.pth"];
    names.map(|name| (name.to_owned(), std::fs::read(folder.join(name)).expect("it is in the repository"))).to_vec()
}

/// Whether the file is read, all of its tensors too.
fn read(path: &Path) -> bool {
    let tensors = match cmae::weights::open(path) {
        Ok(tensors) => tensors,
        Err(error) => {
            let (message, help) = (error.to_string(), error.help());
            assert!(!message.is_empty() && !help.is_empty() && message.len() < 4000, "{message}");
            return false;
        }
    };
    let mut whole = true;
    for tensor in tensors {
        match tensor.values::<f32>() {
            Ok(values) => assert!(values.is_none_or(|values| values.len() == tensor.elements())),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                whole = false;
            }
        }
    }
    whole
}

/// Mutates each sample `count` times; gives how many were read and how many refused.
fn try_mutations(count: usize, seed: u64) -> Vec<(String, [usize; 2])> {
    let samples = samples();
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = place.path().join("mutated.pth");
    let mut found = Vec::new();
    for (index, (name, bytes)) in samples.iter().enumerate() {
        let mut noise = Noise(seed + index as u64);
        let mut counts = [0, 0];
        for number in 0..count {
            let other = &samples[noise.below(samples.len())].1;
            let mut file = mutated(bytes, other, &mut noise);
            // What says where all else lies stands at an archive's end, and a pickle near its head.
            for near in [file.len().saturating_sub(300), 64] {
                let at = near + noise.below(300);
                if noise.below(2) == 0 && at < file.len() {
                    file[at] = noise.next() as u8;
                }
            }
            std::fs::write(&path, &file).expect("it can be written");
            let before = HELD.get();
            MOST.set(before);
            counts[usize::from(!read(&path))] += 1;
            let most = (MOST.get() - before) as usize;
            assert!(most <= ASIDE + EACH * file.len(), "{name} {number}: {most} bytes for a file of {}", file.len());
        }
        found.push((name.clone(), counts));
    }
    found
}

#[test]
fn no_file_of_weights_brings_its_reader_down() {
    let found = try_mutations(60, 0);
    assert!(found.iter().all(|(_, [_, refused])| *refused > 0), "{found:?}");
    assert!(found.iter().any(|(_, [read, _])| *read > 0), "{found:?}");
}

/// `cargo test --release --test decode -- --ignored --nocapture`: 10,000 of each.
#[test]
#[ignore = "minutes"]
fn no_file_of_ten_thousand_of_weights_brings_its_reader_down() {
    for (name, [read, refused]) in try_mutations(10_000, 1 << 32) {
        println!("{name}: {read} read, {refused} refused");
    }
}
