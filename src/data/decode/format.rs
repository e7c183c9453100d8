//! What a file is, by its first bytes: its name may say anything.

use std::path::Path;

use ::image::ImageFormat;

/// Formats that are read, for messages.
pub const READ: &str = "jpeg, png, webp, gif, bmp or tiff";

const ENDINGS: [&str; 15] =
    ["jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "jfi"];

const FORMATS: [(&[u8], ImageFormat); 7] = [
    (b"\xff\xd8\xff", ImageFormat::Jpeg),
    (b"\x89PNG\r\n\x1a\n", ImageFormat::Png),
    (b"GIF87a", ImageFormat::Gif),
    (b"GIF89a", ImageFormat::Gif),
    (b"BM", ImageFormat::Bmp),
    (b"II*\0", ImageFormat::Tiff),
    (b"MM\0*", ImageFormat::Tiff),
];

/// What else lies under the names of pictures, by its first bytes, as words for the user.
const OTHERS: [(&[u8], &str); 25] = [
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer in place of the picture: run `git lfs pull`"),
    (b"\xff\x0a", "a JPEG XL picture, which is not read: convert it"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture, which is not read: convert it"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture, which is not read: convert it"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture, which is not read: convert it"),
    (b"II+\0", "a BigTIFF picture, which is not read: convert it"),
    (b"MM\0+", "a BigTIFF picture, which is not read: convert it"),
    (b"8BPS", "a Photoshop file, which is not read: convert it"),
    (b"\0\0\x01\0", "an icon, which is not read: convert it"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture, which is not read: convert it"),
    (b"#?RADIANCE", "a Radiance HDR picture, which is not read: convert it"),
    (b"qoif", "a QOI picture, which is not read: convert it"),
    (b"DDS ", "a DDS texture, which is not read: convert it"),
    (b"P5\n", "a PGM picture, which is not read: convert it"),
    (b"P6\n", "a PPM picture, which is not read: convert it"),
    (b"%PDF", "a PDF document, no picture"),
    (b"%!PS", "a PostScript document, no picture"),
    (b"PK\x03\x04", "a ZIP archive, no picture: unpack it"),
    (b"\x1f\x8b", "a gzip archive, no picture: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive, no picture: unpack it"),
    (b"\x93NUMPY", "a NumPy array, no picture"),
    (b"\x89HDF", "an HDF5 file, no picture"),
    (b"\0\x05\x16\x07", "what a Mac keeps beside a file, no picture"),
    (b"\0\x05\x16\0", "what a Mac keeps beside a file, no picture"),
    (b"RIFF", "a RIFF file such as a sound or a film, no picture"),
];

/// Bytes that are looked at.
pub const HEAD: usize = 512;

/// Whether a file of this name is taken for a picture; `None` where the name has no ending and only its bytes can tell.
pub fn is_picture(name: &Path) -> Option<bool> {
    let ending = name.extension()?;
    Some(ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Whether a file with these 12 bytes or more at its head is of a format that is read.
pub fn begins_as_picture(head: &[u8]) -> bool {
    of(head).is_ok()
}

/// Whether a picture that begins so, in 25 bytes or more, may have values of 16 bits.
pub fn may_be_deep(head: &[u8]) -> bool {
    match of(head) {
        // The depth stands behind the size, in the header.
        Ok(ImageFormat::Png) => head.get(24) == Some(&16),
        Ok(ImageFormat::Tiff) => true,
        _ => false,
    }
}

/// The format of a file that begins so.
///
/// # Errors
/// What it is instead.
pub fn of(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Ok(ImageFormat::WebP);
    }
    match FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, format)) => Ok(*format),
        None => Err(instead(&bytes[..bytes.len().min(HEAD)])),
    }
}

/// How the name of a file that begins so usually ends.
///
/// # Errors
/// What it is instead.
pub fn ending(bytes: &[u8]) -> Result<&'static str, String> {
    Ok(match of(bytes)? {
        ImageFormat::Jpeg => "jpg",
        ImageFormat::Png => "png",
        ImageFormat::WebP => "webp",
        ImageFormat::Gif => "gif",
        ImageFormat::Bmp => "bmp",
        // All that is read is listed above.
        _ => "tif",
    })
}

fn instead(head: &[u8]) -> String {
    if head.is_empty() {
        return "an empty file".to_owned();
    }
    if head.iter().all(|byte| *byte == 0) {
        return "a file of zeros, as a download that was broken off leaves it".to_owned();
    }
    if let Some(what) = head.get(4..12).filter(|bytes| bytes.starts_with(b"ftyp")).map(|bytes| media(&bytes[4..])) {
        return what.to_owned();
    }
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*what).to_owned();
    }
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let what = if text.starts_with("<!doctype html") || text.starts_with("<html") || text.contains("<head>") {
        "a web page (HTML) in place of the picture: get it anew"
    } else if text.contains("<svg") {
        "an SVG drawing, which is not read: convert it"
    } else if text.starts_with("<?xml") || text.starts_with("<error") {
        "an XML document in place of the picture: get it anew"
    } else if text.starts_with(['{', '[']) {
        "a JSON document in place of the picture: get it anew"
    } else if !head.contains(&0) && text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count() <= 1 {
        // One may come of a letter that is cut at the end.
        "a text, no picture"
    } else {
        return format!("not a {READ} picture");
    };
    what.to_owned()
}

/// What the brand of an ISO media file says.
fn media(brand: &[u8]) -> &'static str {
    match brand {
        b"avif" | b"avis" => "an AVIF picture, which is not read: convert it",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"heif" | b"mif1" | b"msf1" => {
            "a HEIC picture, which is not read: convert it"
        }
        b"crx " => "a raw picture of a camera, which is not read: convert it",
        _ => "a film, no picture",
    }
}
