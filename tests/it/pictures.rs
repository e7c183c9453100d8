//! A folder of pictures of every kind that users have, made on the spot.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use jpeg_encoder::{ColorType, Encoder};

/// Colour of a pixel of picture `number` of `class`: stripes whose direction is the class, so that there is something
/// to learn.
fn colour(class: u32, number: u32, x: u32, y: u32) -> [u8; 3] {
    let along = if class == 0 { x } else { y };
    let level = if (along / 4 + number).is_multiple_of(2) { 210 } else { 40 };
    [level, (level as u32 * (number % 5 + 3) / 8) as u8, 255 - level]
}

fn rgb(class: u32, number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb(colour(class, number, x, y)))
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("memory takes it");
    bytes.into_inner()
}

/// The picture as a file: its extension and bytes. The kind goes round with the number.
fn file(class: u32, number: u32) -> (&'static str, Vec<u8>) {
    // Non-square, both ways round.
    let (width, height) = if number.is_multiple_of(2) { (40, 28) } else { (26, 36) };
    let picture = rgb(class, number, width, height);
    let gray: GrayImage = GrayImage::from_fn(width, height, |x, y| Luma([colour(class, number, x, y)[0]]));
    match number % 7 {
        0 => ("jpg", encoded(&picture.into(), ImageFormat::Jpeg)),
        1 => ("png", encoded(&picture.into(), ImageFormat::Png)),
        2 => {
            let mut bytes = Vec::new();
            WebPEncoder::new_lossless(&mut bytes)
                .encode(picture.as_raw(), width, height, image::ExtendedColorType::Rgb8)
                .expect("memory takes it");
            ("webp", bytes)
        }
        3 => ("jpeg", encoded(&gray.into(), ImageFormat::Jpeg)),
        4 => {
            let ink: Vec<u8> = picture.pixels().flat_map(|p| [255 - p.0[0], 255 - p.0[1], 255 - p.0[2], 0]).collect();
            let mut bytes = Vec::new();
            Encoder::new(&mut bytes, 95)
                .encode(&ink, width as u16, height as u16, ColorType::Cmyk)
                .expect("memory takes it");
            ("JPG", bytes)
        }
        5 => {
            let alpha = image::RgbaImage::from_fn(width, height, |x, y| {
                let [r, g, b] = colour(class, number, x, y);
                Rgba([r, g, b, 128])
            });
            ("png", encoded(&alpha.into(), ImageFormat::Png))
        }
        _ => {
            let alpha =
                image::GrayAlphaImage::from_fn(width, height, |x, y| LumaA([colour(class, number, x, y)[0], 200]));
            ("png", encoded(&alpha.into(), ImageFormat::Png))
        }
    }
}

/// Writes `count` pictures for each of two classes below `folder`.
pub fn write_folder(folder: &Path, count: u32) {
    for (class, name) in [(0, "columns"), (1, "rows")] {
        let class_folder = folder.join(name);
        fs::create_dir_all(&class_folder).expect("a temporary folder");
        for number in 0..count {
            let (extension, bytes) = file(class, number);
            fs::write(class_folder.join(format!("{number:03}.{extension}")), bytes).expect("a temporary folder");
        }
    }
}
