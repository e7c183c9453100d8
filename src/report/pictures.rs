//! Pictures of a run's folder as data URIs: of reconstructions the newest as it is, earlier ones small.
//!
//! **Invariant:** a page's size does not grow with the run: of many earlier pictures [`EARLIER`] are taken, evenly spread.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageFormat};

use super::html::data_uri;

/// Earlier pictures that are shown.
pub const EARLIER: usize = 11;
/// Width of a small picture in pixels: three columns that are still told apart on a fine screen.
const SMALL: u32 = 240;
/// Pictures of at most this many bytes are taken as they are.
const LIGHT: usize = 24 << 10;
/// Width and bytes of a contact sheet: a page holds two beside its reconstructions.
const SHEET: u32 = 1600;
const LIGHT_SHEET: usize = 512 << 10;

#[derive(Debug)]
pub struct Picture {
    pub step: u64,
    pub uri: String,
    pub width: u32,
    pub height: u32,
}

/// Pictures of `folder`, the newest first, and how many there are.
pub fn read(folder: &Path, warn: &mut dyn FnMut(String)) -> (Vec<Picture>, usize) {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".png")?.parse().ok());
        files.extend(step.map(|step| (step, entry.path())));
    }
    files.sort_by(|a, b| b.cmp(a));
    let shown = if files.len() <= EARLIER + 1 { files.len() } else { EARLIER + 1 };
    let mut found = Vec::new();
    for place in 0..shown {
        // The newest, the first, and steps as even as can be between them.
        let (step, path) = &files[place * (files.len() - 1) / (shown - 1).max(1)];
        match picture(path, *step, place == 0) {
            Ok(picture) => found.push(picture),
            Err(reason) => warn(format!("cannot show {}: {reason}", path.display())),
        }
    }
    (found, files.len())
}

/// The contact sheet at `path`, where there is one.
pub fn sheet(path: &Path, warn: &mut dyn FnMut(String)) -> Option<Picture> {
    if !path.is_file() {
        return None;
    }
    let read = load(path).and_then(|(bytes, image)| match bytes.len() <= LIGHT_SHEET && image.width() <= SHEET {
        true => Ok(as_it_is(0, &bytes, &image)),
        false => smaller(0, &image, SHEET.min(image.width())),
    });
    read.map_err(|reason| warn(format!("cannot show {}: {reason}", path.display()))).ok()
}

fn picture(path: &Path, step: u64, whole: bool) -> Result<Picture, String> {
    let (bytes, image) = load(path)?;
    if whole || bytes.len() <= LIGHT || image.width() <= SMALL {
        return Ok(as_it_is(step, &bytes, &image));
    }
    smaller(step, &image, SMALL)
}

fn load(path: &Path) -> Result<(Vec<u8>, DynamicImage), String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let image = image::load_from_memory_with_format(&bytes, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok((bytes, image))
}

fn as_it_is(step: u64, bytes: &[u8], image: &DynamicImage) -> Picture {
    let (width, height) = image.dimensions();
    Picture { step, uri: data_uri("image/png", bytes), width, height }
}

fn smaller(step: u64, image: &DynamicImage, width: u32) -> Result<Picture, String> {
    let small = image.resize(width, u32::MAX, FilterType::Triangle);
    // Noise of photographs fills a PNG: a JPEG of them is a fifth of it.
    let small = DynamicImage::ImageRgb8(small.to_rgb8());
    let mut out = Cursor::new(Vec::new());
    small.write_to(&mut out, ImageFormat::Jpeg).map_err(|error| error.to_string())?;
    let (width, height) = small.dimensions();
    Ok(Picture { step, uri: data_uri("image/jpeg", out.get_ref()), width, height })
}
