//! Sources that are read from other files than a folder of pictures, each small, by name: what both test binaries need of them.
//!
//! **Invariant:** picture `i` of a source is a square whose values hang on `i` alone, and its label is `i % 3`.

use std::fs;
use std::io::Write;
use std::path::Path;

use cmae::spec::{CifarKind, SourceSpec, Split};

/// A source and the files that it is read from.
pub struct Made {
    pub name: &'static str,
    /// By their path below a root.
    pub files: Vec<(String, Vec<u8>)>,
    /// As a pipeline writes it, with `ROOT` where the root stands.
    pub text: &'static str,
    pub spec: fn(&str) -> SourceSpec,
    pub pictures: usize,
    pub channels: usize,
    pub classes: Vec<String>,
}

impl Made {
    pub fn write(&self, root: &Path) {
        self.files.iter().for_each(|(name, bytes)| write(&root.join(name), bytes));
    }

    pub fn spec(&self, root: &Path) -> SourceSpec {
        (self.spec)(root.to_str().expect("a temporary folder has a plain name"))
    }
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("it is below a folder")).expect("a temporary folder");
    fs::write(path, bytes).expect("a temporary folder");
}

/// The value of picture `number` at a place; no two pictures are alike.
pub fn value(number: usize, place: usize) -> u8 {
    (number * 37 + place * 5 + place * place % 7) as u8
}

pub fn label(number: usize) -> usize {
    number % 3
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

/// Records `numbers`; of two labels the second is the one that counts.
fn cifar(labels: usize, numbers: std::ops::Range<usize>) -> Vec<u8> {
    let record = |number: usize| {
        let labels = [vec![19; labels - 1], vec![label(number) as u8]].concat();
        labels.into_iter().chain((0..3072).map(move |place| value(number, place)))
    };
    numbers.flat_map(record).collect()
}

fn idx(magic: u8, sizes: &[u32], values: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, magic];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// One of every kind.
pub fn sources() -> Vec<Made> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let ten = named(&["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]);
    let batches = (0..5).map(|batch| (format!("data_batch_{}.bin", batch + 1), cifar(1, 3 * batch..3 * batch + 3)));
    let names = ("batches.meta.txt".to_owned(), format!("{}\n\n", ten.join("\n")).into_bytes());
    let pictures = idx(3, &[20, 6, 6], (0..20).flat_map(|number| (0..36).map(move |place| value(number, place))));
    let labels = idx(1, &[20], (0..20).map(|number| label(number) as u8));
    vec![
        Made {
            name: "cifar10",
            files: batches.chain([names]).collect(),
            text: "cifar10(\"ROOT\")",
            spec: |root| SourceSpec::Cifar { kind: CifarKind::Cifar10, path: root.to_owned(), split: Split::Train },
            pictures: 15,
            channels: 3,
            classes: ten,
        },
        Made {
            name: "cifar100",
            files: vec![("cifar-100-binary/test.bin".to_owned(), cifar(2, 0..14))],
            text: "cifar100(\"ROOT\", split: \"val\")",
            spec: |root| SourceSpec::Cifar { kind: CifarKind::Cifar100, path: root.to_owned(), split: Split::Val },
            pictures: 14,
            channels: 3,
            classes: numbers(100),
        },
        Made {
            name: "idx",
            files: vec![("train-images".to_owned(), pictures.clone()), ("train-labels".to_owned(), labels.clone())],
            text: "idx(\"ROOT/train-images\", labels: \"ROOT/train-labels\")",
            spec: |root| SourceSpec::Idx {
                images: format!("{root}/train-images"),
                labels: Some(format!("{root}/train-labels")),
            },
            pictures: 20,
            channels: 1,
            classes: numbers(3),
        },
        Made {
            name: "compressed idx",
            files: vec![("pictures.gz".to_owned(), gzip(&pictures)), ("labels.gz".to_owned(), gzip(&labels))],
            text: "idx(\"ROOT/pictures.gz\", labels: \"ROOT/labels.gz\")",
            spec: |root| SourceSpec::Idx {
                images: format!("{root}/pictures.gz"),
                labels: Some(format!("{root}/labels.gz")),
            },
            pictures: 20,
            channels: 1,
            classes: numbers(3),
        },
    ]
}
