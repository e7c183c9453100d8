//! Folders of pictures as users have them: cut files, bombs, litter, other formats, links, deep values, splits that do not
//! agree. And the probe that tells whether their pictures and labels are read.
//!
//! **Invariant:** a class is a colour, so that raw pixels tell classes apart: on pictures and labels that are read right,
//! the nearest neighbour is right 100 % of the time.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use jpeg_encoder::{ColorType, Encoder};

use crate::command::{run, succeed};
use crate::runs::text;

/// Pictures of a class.
pub const COUNT: usize = 12;
const SIDE: u32 = 24;

/// Splitmix64: the same noise everywhere.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn colour(class: char) -> [i64; 3] {
    match class {
        'a' => [200, 40, 40],
        'b' => [40, 200, 40],
        _ => [40, 40, 200],
    }
}

/// A picture of a class's colour, with a little noise that hangs on `number`.
pub fn picture(class: char, number: usize) -> RgbImage {
    let mut noise = Noise(number as u64 * 31 + class as u64);
    let mut level = |base: i64| (base + noise.below(17) as i64 - 8) as u8;
    RgbImage::from_fn(SIDE, SIDE, |_, _| Rgb(colour(class).map(&mut level)))
}

/// Noise of `side` × `side` pixels, which no format stores in few bytes.
pub fn static_noise(side: u32) -> RgbImage {
    let mut noise = Noise(1);
    RgbImage::from_fn(side, side, |_, _| Rgb([(); 3].map(|()| noise.next() as u8)))
}

pub fn folder(path: &Path) {
    fs::create_dir_all(path).expect("a temporary folder");
}

pub fn file(path: &Path, bytes: &[u8]) {
    folder(path.parent().expect("it is below a folder"));
    fs::write(path, bytes).expect("a temporary folder");
}

pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).expect("memory takes it");
    bytes.into_inner()
}

/// Pictures `numbers` of `class` below `root/CLASS`, with the ending and format that are named.
fn class(root: &Path, class: char, numbers: std::ops::Range<usize>, ending: &str, format: ImageFormat) {
    for number in numbers {
        let path = root.join(format!("{class}/{number:02}.{ending}"));
        file(&path, &encoded(picture(class, number), format));
    }
}

/// A folder a class, each of one colour.
pub fn classes(root: &Path, names: &str) {
    names.chars().for_each(|name| class(root, name, 0..COUNT, "png", ImageFormat::Png));
}

/// `good/train` and `good/val`: three classes of twelve pictures.
pub fn good(out: &Path) {
    classes(&out.join("good/train"), "abc");
    classes(&out.join("good/val"), "abc");
}

/// Noise as a JPEG, baseline or progressive.
pub fn jpeg(side: u32, progressive: bool) -> Vec<u8> {
    let picture = static_noise(side);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 90);
    encoder.set_progressive(progressive);
    encoder.encode(picture.as_raw(), side as u16, side as u16, ColorType::Rgb).expect("memory takes it");
    bytes
}

/// `cut/train`: `good` and two JPEGs of which the second half is missing, both in class `a`.
pub fn cut(out: &Path) {
    let root = out.join("cut/train");
    classes(&root, "abc");
    for (name, progressive) in [("base", false), ("progressive", true)] {
        let bytes = jpeg(96, progressive);
        file(&root.join(format!("a/{name}.jpg")), &bytes[..bytes.len() / 2]);
    }
}

/// A black PNG of one bit a pixel: some hundred kilobytes on disk, gigabytes decoded.
pub fn black_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("memory takes it");
    let mut rows = writer.stream_writer().expect("memory takes it");
    let row = vec![0; (width as usize).div_ceil(8)];
    (0..height).for_each(|_| std::io::Write::write_all(&mut rows, &row).expect("memory takes it"));
    rows.finish().expect("every row is written");
    drop(writer);
    bytes
}

/// `bomb/train`: `good`, and a whole PNG of 60,000 × 60,000 pixels in class `a`.
pub fn bomb(out: &Path) {
    let root = out.join("bomb/train");
    classes(&root, "abc");
    file(&root.join("a/bomb.png"), &black_png(60_000, 60_000));
}

/// `litter/train`: `good`, and what archives and network drives leave behind.
pub fn litter(out: &Path) {
    let root = out.join("litter/train");
    classes(&root, "abc");
    file(&root.join("__MACOSX/a/._00.png"), b"\0\x05\x16\x07");
    let thumbnail = root.join("a/@eaDir/00.png/SYNOPHOTO_THUMB_M.jpg");
    file(&thumbnail, &encoded(picture('a', 0), ImageFormat::Jpeg));
}

/// `formats/train`: PNGs of `a`, BMPs of `b`, PNGs and TIFFs of `c`.
pub fn formats(out: &Path) {
    let root = out.join("formats/train");
    class(&root, 'a', 0..COUNT / 2, "png", ImageFormat::Png);
    class(&root, 'b', 0..COUNT, "bmp", ImageFormat::Bmp);
    class(&root, 'c', 0..COUNT / 2, "png", ImageFormat::Png);
    class(&root, 'c', COUNT / 2..COUNT, "tif", ImageFormat::Tiff);
}

/// `links/train`: class folders of `good` (which is written too) as links, one level below the classes.
#[cfg(unix)]
pub fn links(out: &Path) {
    good(out);
    for name in ["a", "b", "c"] {
        let class = out.join("links/train").join(name);
        folder(&class);
        std::os::unix::fs::symlink(out.join("good/train").join(name), class.join("part1")).expect("a new name");
    }
}

/// A ramp from 0 to `top` over `SIDE` × `SIDE` pixels of 16 bits.
pub fn ramp(top: u32) -> ImageBuffer<Luma<u16>, Vec<u16>> {
    ImageBuffer::from_fn(SIDE, SIDE, |x, y| Luma([((y * SIDE + x) * top / (SIDE * SIDE - 1)) as u16]))
}

/// `deep/train`: 16-bit pictures of full range, and of values up to 4095.
pub fn deep(out: &Path) {
    for (name, top) in [("full", 65535), ("twelve_bits", 4095)] {
        let path = out.join(format!("deep/train/a/{name}.png"));
        file(&path, &encoded(ramp(top), ImageFormat::Png));
    }
}

/// `no_a/val`: a split that lacks the first class.
pub fn no_a(out: &Path) {
    classes(&out.join("no_a/val"), "bc");
}

/// `empty/val`: two of each class's twelve files are empty.
pub fn empty(out: &Path) {
    let root = out.join("empty/val");
    classes(&root, "abc");
    for name in ["a", "b", "c"] {
        (0..2).for_each(|number| file(&root.join(format!("{name}/{number:02}.png")), b""));
    }
}

/// `flat/train`: 36 pictures in one folder, without labels.
pub fn flat(out: &Path) {
    for (number, name) in "abc".chars().cycle().take(3 * COUNT).enumerate() {
        let path = out.join(format!("flat/train/{number:02}.png"));
        file(&path, &encoded(picture(name, number), ImageFormat::Png));
    }
}

/// The quickstart in colour, at a size for tests, to be told its sources and its folder.
pub const QUICKSTART: [&str; 14] = [
    "run",
    "pipelines/quickstart.cmae",
    "--set",
    "data.channels=3",
    "--set",
    "data.batch_size=8",
    "--set",
    "train.epochs=1",
    "--set",
    "model.encoder.embed_dim=32",
    "--set",
    "model.encoder.depth=1",
    "--threads",
    "2",
];

/// `data.NAME=image_folder("PATH")`.
pub fn source(name: &str, path: &Path) -> String {
    format!("data.{name}=image_folder(\"{}\")", text(path))
}

/// A short run of the quickstart on `good`, which is written below `out`; gives the run's folder.
pub fn trained(out: &Path) -> PathBuf {
    good(out);
    let folder = out.join("run");
    let sources = [source("train", &out.join("good/train")), source("val", &out.join("good/val"))];
    let mut arguments = QUICKSTART.to_vec();
    sources.iter().for_each(|source| arguments.extend(["--set", source]));
    arguments.extend(["--out", text(&folder)]);
    succeed(&arguments);
    folder
}

/// `cmaec eval knn RUN --bank BANK --queries QUERIES -k 1`: (exit code, accuracy of raw pixels in per cent where it says one,
/// all that it said).
pub fn probe(trained: &Path, bank: &Path, queries: &Path) -> (i32, Option<f64>, String) {
    let folders = [text(trained), text(bank), text(queries)];
    let (code, stdout, stderr) =
        run(&["eval", "knn", folders[0], "--bank", folders[1], "--queries", folders[2], "-k", "1"]);
    let line = stdout.lines().find_map(|line| line.trim().strip_prefix("raw pixels"));
    let accuracy = line.and_then(|line| line.trim().trim_end_matches('%').trim().parse().ok());
    (code, accuracy, format!("{stdout}{stderr}"))
}

#[test]
fn raw_pixels_tell_the_good_classes_apart() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let run = trained(out.path());
    let (code, accuracy, said) = probe(&run, &out.path().join("good/train"), &out.path().join("good/val"));
    assert_eq!((code, accuracy), (0, Some(100.0)), "{said}");
}
