//! A source as a pipeline's `data` section writes it.
//!
//! **Invariant:** what is written is read back to the same settings; arguments that are as by default are left out.

use crate::spec::{ArrayLayout, CifarKind, LabelMaps, ShapesSpec, Shuffle, SourceSpec, Split};

/// The call that makes `spec`: `image_folder("data/train")`.
pub fn written(spec: &SourceSpec) -> String {
    match spec {
        SourceSpec::Cifar { kind, path, split } => {
            let name = match kind {
                CifarKind::Cifar10 => "cifar10",
                CifarKind::Cifar100 => "cifar100",
            };
            format!("{name}({}{})", quoted(path), if *split == Split::Val { ", split: \"val\"" } else { "" })
        }
        SourceSpec::Digits { split } => format!("digits({})", quoted(split)),
        SourceSpec::ImageFolder { path, range, label_maps } => {
            let maps = label_maps.iter().map(|LabelMaps { path, ignore }| {
                let ignore = ignore.map_or_else(String::new, |number| format!(", ignore: {number}"));
                format!(", label_maps: {}{ignore}", quoted(path))
            });
            format!("image_folder({}{}{})", quoted(path), levels(*range), maps.collect::<String>())
        }
        SourceSpec::Idx { images, labels } => {
            let labels = labels.iter().map(|path| format!(", labels: {}", quoted(path)));
            format!("idx({}{})", quoted(images), labels.collect::<String>())
        }
        SourceSpec::Npy { path, range, layout } => {
            let range = range.map_or(String::new(), |(low, high)| format!(", range: {low}..{high}"));
            let layout = match layout {
                None => "",
                Some(ArrayLayout::Hwc) => ", layout: \"hwc\"",
                Some(ArrayLayout::Chw) => ", layout: \"chw\"",
            };
            format!("npy({}{range}{layout})", quoted(path))
        }
        SourceSpec::Parquet { path, image, label, range, shuffle } => {
            let image = if image == "image" { String::new() } else { format!(", image: {}", quoted(image)) };
            let label = label.iter().map(|label| format!(", label: {}", quoted(label))).collect::<String>();
            format!("parquet({}{image}{label}{}{})", quoted(path), levels(*range), order(*shuffle))
        }
        SourceSpec::TarShards { path, range, shuffle } => {
            format!("tar_shards({}{}{})", quoted(path), levels(*range), order(*shuffle))
        }
        SourceSpec::Shapes(spec) => shapes(spec),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}

fn levels(range: Option<(u16, u16)>) -> String {
    range.map_or(String::new(), |(low, high)| format!(", range: {low}..{high}"))
}

fn order(shuffle: Shuffle) -> &'static str {
    match shuffle {
        Shuffle::All => "",
        Shuffle::Shards => ", shuffle: \"shards\"",
    }
}

/// All of it: what is by default hangs on the split.
fn shapes(spec: &ShapesSpec) -> String {
    let ShapesSpec { split, count, size, classes, color, position, scale, rotation, background, texture } = spec;
    let split = if *split == Split::Train { "train" } else { "val" };
    let (height, width) = size;
    // Nine decimals are more than anybody writes, and few enough that 0.07 is 7 % and no 7.000000000000001 %.
    let [color, position, scale, rotation, background, texture] =
        [color, position, scale, rotation, background, texture]
            .map(|ratio| format!("{}%", (ratio * 1e11).round() / 1e9));
    format!(
        "shapes(\"{split}\", count: {count}, size: ({height}px, {width}px), classes: {classes}, color: {color}, position: \
         {position}, scale: {scale}, rotation: {rotation}, background: {background}, texture: {texture})"
    )
}
