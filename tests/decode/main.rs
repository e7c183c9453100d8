//! Files that are cut, damaged, or lie about their size: whatever the bytes are, the decoder gives a picture or a reason, and takes no
//! more memory than its limit on pixels allows. A binary of its own, for the allocator that counts.
#![allow(unsafe_code, reason = "an allocator is unsafe to write")]
#![allow(clippy::disallowed_macros, reason = "the test runner catches what is printed")]

#[path = "../made.rs"]
#[allow(dead_code, reason = "the other test binary reads them")]
mod made;
mod sources;
mod weights;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Cursor;

use cmae::data::decode::{Reading, decode};
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use jpeg_encoder::{ColorType, Encoder};

/// Counts what a thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no count any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Pixels that the tests allow; the samples have fewer by far.
const MAX_PIXELS: usize = 1 << 20;
/// Memory for them: what a decoder may take aside, and for each pixel what it is decoded to, and twice that on the way.
const MOST_BYTES: isize = 3 * ((16 << 20) + 16 * MAX_PIXELS as isize);

const READING: Reading = Reading { channels: 3, max_pixels: MAX_PIXELS, range: None };

/// Splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).expect("memory takes it");
    bytes.into_inner()
}

fn jpeg(picture: &RgbImage, change: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 80);
    change(&mut encoder);
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    encoder.encode(picture.as_raw(), width, height, ColorType::Rgb).expect("memory takes it");
    bytes
}

/// Whole files of every format that is read, by name.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = Noise(5);
    let mut level = |base: u32| (base * 7 + noise.below(9) as u32) as u8;
    let picture = RgbImage::from_fn(37, 29, |x, y| Rgb([level(x), level(y), level(x + y)]));
    let gray = DynamicImage::from(picture.clone()).into_luma8();
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(37, 29, |x, y| Luma([(x * y * 60) as u16]));
    let mut lossless = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut lossless);
    encoder.encode(picture.as_raw(), 37, 29, ExtendedColorType::Rgb8).expect("memory takes it");
    let mut animated = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut animated);
    for _ in 0..2 {
        encoder.encode(picture.as_raw(), 37, 29, ExtendedColorType::Rgb8).expect("memory takes it");
    }
    drop(encoder);
    vec![
        ("baseline jpeg", jpeg(&picture, |_| {})),
        ("progressive jpeg", jpeg(&picture, |encoder| encoder.set_progressive(true))),
        ("jpeg with restarts", jpeg(&picture, |encoder| encoder.set_restart_interval(3))),
        ("gray jpeg", encoded(gray, ImageFormat::Jpeg)),
        ("subsampled jpeg", include_bytes!("../pictures/subsampled.jpg").to_vec()),
        ("png", encoded(picture.clone(), ImageFormat::Png)),
        ("16-bit png", encoded(deep.clone(), ImageFormat::Png)),
        ("palette png", include_bytes!("../pictures/palette.png").to_vec()),
        ("lossless webp", lossless),
        ("lossy webp", include_bytes!("../pictures/lossy.webp").to_vec()),
        ("webp with alpha", include_bytes!("../pictures/alpha.webp").to_vec()),
        ("animated webp", include_bytes!("../pictures/animated.webp").to_vec()),
        ("gif", encoded(picture.clone(), ImageFormat::Gif)),
        ("animated gif", animated),
        ("bmp", encoded(picture.clone(), ImageFormat::Bmp)),
        ("tiff", encoded(picture, ImageFormat::Tiff)),
        ("16-bit tiff", encoded(deep, ImageFormat::Tiff)),
        ("lzw tiff", include_bytes!("../pictures/lzw.tif").to_vec()),
        ("deflate tiff", include_bytes!("../pictures/deflate16.tif").to_vec()),
        ("packbits tiff", include_bytes!("../pictures/packbits.tif").to_vec()),
    ]
}

#[test]
fn a_file_that_is_cut_anywhere_is_broken_and_what_follows_a_whole_one_does_not_count() {
    let mut faults = Vec::new();
    for (name, bytes) in samples() {
        let whole = match decode(&bytes, READING) {
            Ok(decoded) => decoded,
            Err(reason) => {
                faults.push(format!("{name}: {reason}"));
                continue;
            }
        };
        let longer: Vec<u8> = bytes.iter().copied().chain(*b"\0\0trailing \xff\xd8\xff rubbish").collect();
        if decode(&longer, READING).as_ref() != Ok(&whole) {
            faults.push(format!("{name}: changed by what follows it"));
        }
        let mut told = 0;
        for length in 0..bytes.len() {
            match decode(&bytes[..length], READING) {
                // What comes after the pixels in these formats is nothing that is read.
                Ok(cut) if name.ends_with("tiff") && cut == whole => told += 1,
                Ok(_) => faults.push(format!("{name}: {length} of {} bytes count as whole", bytes.len())),
                Err(reason) => told += usize::from(reason.starts_with("ends early")),
            }
        }
        // A progressive one is coarser, and whole, where it lacks its last scans.
        if name.contains("jpeg") && !name.contains("progressive") {
            for share in 3..=9 {
                let mended: Vec<u8> = bytes[..bytes.len() * share / 10].iter().copied().chain(*b"\xff\xd9").collect();
                if decode(&mended, READING).is_ok() {
                    faults.push(format!("{name}: {share} tenths with an end mark count as whole"));
                }
            }
        }
        // Before that, it may be unknown what it is.
        if told + 64 < bytes.len() {
            faults.push(format!("{name}: {told} of {} cuts are told as such", bytes.len()));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults[..faults.len().min(40)].join("\n"));
}

/// Another file than `bytes`, of one to four edits.
fn mutated(bytes: &[u8], other: &[u8], noise: &mut Noise) -> Vec<u8> {
    const EXTREMES: [u32; 10] = [0, 1, 0xff, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX];
    let mut bytes = bytes.to_vec();
    for _ in 0..=noise.below(4) {
        // Half of the edits hit the head, where sizes and counts stand.
        let reach = if noise.below(2) == 0 { bytes.len().min(96) } else { bytes.len() };
        let at = noise.below(reach);
        match noise.below(8) {
            0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << noise.below(8)),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = noise.next() as u8),
            3 | 4 => {
                let (value, length) = (EXTREMES[noise.below(EXTREMES.len())], [2, 4][noise.below(2)]);
                let value = if noise.below(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
                bytes.iter_mut().skip(at).zip(&value[..length]).for_each(|(byte, value)| *byte = *value);
            }
            5 => bytes.truncate(at),
            6 => {
                let piece = other.iter().copied().skip(noise.below(other.len())).take(noise.below(64));
                bytes.splice(at..at, piece);
            }
            _ => drop(bytes.drain(at..(at + noise.below(32)).min(bytes.len()))),
        }
    }
    bytes
}

/// Decodes `count` mutations of each sample; gives how many were read, refused, and saved from a decoder's panic.
fn try_mutations(count: usize, seed: u64) -> BTreeMap<&'static str, [usize; 3]> {
    let samples = samples();
    let mut found = BTreeMap::new();
    for (index, (name, bytes)) in samples.iter().enumerate() {
        let mut noise = Noise(seed + index as u64);
        let counts: &mut [usize; 3] = found.entry(*name).or_default();
        for number in 0..count {
            let other = &samples[noise.below(samples.len())].1;
            let file = mutated(bytes, other, &mut noise);
            let before = HELD.get();
            MOST.set(before);
            let decoded = decode(&file, READING);
            let most = MOST.get() - before;
            assert!(most <= MOST_BYTES, "{name} {number}: {most} bytes for a file of {}: {file:02x?}", file.len());
            match decoded {
                Ok(decoded) => {
                    assert!(decoded.image.height * decoded.image.width <= MAX_PIXELS, "{name} {number}");
                    counts[0] += 1;
                }
                Err(reason) => {
                    assert!(!reason.is_empty() && !reason.contains('\n'), "{name} {number}: {reason}");
                    counts[if reason == "the decoder failed on it" { 2 } else { 1 }] += 1;
                }
            }
        }
    }
    found
}

#[test]
fn no_file_brings_the_decoder_down() {
    let found = try_mutations(150, 0);
    // The mutations are neither all too mild nor all too wild.
    assert!(found.values().all(|[_, refused, _]| *refused > 0), "{found:?}");
    assert!(found.values().filter(|[read, ..]| *read > 0).count() > 15, "{found:?}");
}

/// `cargo test --release --test decode -- --ignored --nocapture`: 10,000 of each.
#[test]
#[ignore = "minutes"]
fn no_file_of_ten_thousand_of_each_format_brings_the_decoder_down() {
    for (name, [read, refused, failed]) in try_mutations(10_000, 1 << 32) {
        println!("{name}: {read} read, {refused} refused, {failed} where the decoder panicked and was caught");
    }
}
