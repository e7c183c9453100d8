//! Sources of pictures, as `data` calls them: paths, splits, ranges.

use crate::diag::{Code, Diagnostic};
use crate::spec::{ArrayLayout, CifarKind, LabelMaps, ShapesSpec, Shuffle, SourceSpec, Split};

use super::args::{Bag, Builtin};
use super::misfit::wrong_type;
use super::paths;
use super::value::Kind;

/// All sources.
pub const SOURCES: &[Builtin] = &[
    Builtin { name: "cifar10", params: &["path", "split?"], make: |bag| cifar("cifar10", CifarKind::Cifar10, bag) },
    Builtin { name: "cifar100", params: &["path", "split?"], make: |bag| cifar("cifar100", CifarKind::Cifar100, bag) },
    Builtin { name: "digits", params: &["split?"], make: digits },
    Builtin { name: "idx", params: &["path", "labels?"], make: idx },
    Builtin { name: "image_folder", params: &["path", "range?", "label_maps?", "ignore?"], make: image_folder },
    Builtin { name: "npy", params: &["path", "range?", "layout?"], make: npy },
    Builtin { name: "parquet", params: &["path", "image?", "label?", "range?", "shuffle?"], make: parquet },
    Builtin { name: "shapes", params: SHAPES, make: shapes },
    Builtin { name: "tar_shards", params: &["path", "range?", "shuffle?"], make: tar_shards },
];

const SHAPES: &[&str] =
    &["split?", "count?", "size?", "classes?", "color?", "position?", "scale?", "rotation?", "background?", "texture?"];

type Made = Result<Kind, Diagnostic>;

fn cifar(source: &str, kind: CifarKind, bag: &Bag) -> Made {
    Ok(Kind::NewSource(SourceSpec::Cifar { kind, path: path(source, bag, "path")?, split: split(source, bag)? }))
}

fn idx(bag: &Bag) -> Made {
    let labels = bag.get("labels").map(|_| path("idx", bag, "labels")).transpose()?;
    Ok(Kind::NewSource(SourceSpec::Idx { images: path("idx", bag, "path")?, labels }))
}

fn npy(bag: &Bag) -> Made {
    let path = path("npy", bag, "path")?;
    let range = bag.get("range").map(|_| bag.float_range("range", (0.0, 1.0))).transpose()?;
    if let (Some((low, high)), Some(value)) = (range, bag.get("range"))
        && !(low < high && (high - low).is_finite())
    {
        let message = format!("`range` of `npy` is {value}: two numbers, the second above the first");
        return Err(Diagnostic::new(Code::OutOfRange, message)
            .label(value.span, "out of range")
            .help("write `range: 0..10000`"));
    }
    let layout = match (bag.get("layout"), bag.string("layout")?.as_deref()) {
        (None, _) => None,
        (_, Some("hwc")) => Some(ArrayLayout::Hwc),
        (_, Some("chw")) => Some(ArrayLayout::Chw),
        (Some(value), _) => return Err(wrong_type("`layout` of `npy`", value, "\"hwc\" or \"chw\"")),
    };
    Ok(Kind::NewSource(SourceSpec::Npy { path, range, layout }))
}

fn parquet(bag: &Bag) -> Made {
    Ok(Kind::NewSource(SourceSpec::Parquet {
        path: path("parquet", bag, "path")?,
        image: bag.string("image")?.map_or_else(|| "image".to_owned(), |name| name.to_string()),
        label: bag.string("label")?.map(|name| name.to_string()),
        range: levels("parquet", bag)?,
        shuffle: shuffle("parquet", bag)?,
    }))
}

fn tar_shards(bag: &Bag) -> Made {
    let path = path("tar_shards", bag, "path")?;
    let (range, shuffle) = (levels("tar_shards", bag)?, shuffle("tar_shards", bag)?);
    Ok(Kind::NewSource(SourceSpec::TarShards { path, range, shuffle }))
}

fn shuffle(source: &str, bag: &Bag) -> Result<Shuffle, Diagnostic> {
    match (bag.get("shuffle"), bag.string("shuffle")?.as_deref()) {
        (None, _) | (_, Some("all")) => Ok(Shuffle::All),
        (_, Some("shards")) => Ok(Shuffle::Shards),
        (Some(value), _) => Err(wrong_type(&format!("`shuffle` of `{source}`"), value, "\"all\" or \"shards\"")),
    }
}

/// The argument `name` of `source`, a path that some system opens as it stands.
fn path(source: &str, bag: &Bag, name: &str) -> Result<String, Diagnostic> {
    let path = bag.string(name)?.map_or_else(String::new, |p| p.to_string());
    let before = if name == "path" { String::new() } else { format!("…, {name}: ") };
    paths::openable(&path, bag.get(name).map_or(bag.call, |value| value.span), |fitting| {
        format!("{source}({before}\"{fitting}\")")
    })?;
    Ok(path)
}

fn digits(bag: &Bag) -> Made {
    let split = match split("digits", bag)? {
        Split::Train => "train",
        Split::Val => "val",
    };
    Ok(Kind::NewSource(SourceSpec::Digits { split: split.to_owned() }))
}

fn image_folder(bag: &Bag) -> Made {
    Ok(Kind::NewSource(SourceSpec::ImageFolder {
        path: path("image_folder", bag, "path")?,
        range: levels("image_folder", bag)?,
        label_maps: label_maps(bag)?,
    }))
}

fn label_maps(bag: &Bag) -> Result<Option<LabelMaps>, Diagnostic> {
    let ignore = match bag.get("ignore") {
        None => None,
        Some(value) => match value.whole().and_then(|number| u16::try_from(number).ok()) {
            Some(number) => Some(number),
            None => return Err(wrong_type("`ignore` of `image_folder`", value, "a number of pixels such as 255")),
        },
    };
    match (bag.get("label_maps"), bag.get("ignore")) {
        (Some(_), _) => Ok(Some(LabelMaps { path: path("image_folder", bag, "label_maps")?, ignore })),
        (None, Some(value)) => {
            Err(Diagnostic::new(Code::UnusedSetting, "`ignore` of `image_folder` is of label maps, and there are none")
                .label(value.span, "nothing reads this")
                .help("name their folder: `label_maps: \"data/annotations\"`"))
        }
        (None, None) => Ok(None),
    }
}

fn split(source: &str, bag: &Bag) -> Result<Split, Diagnostic> {
    match (bag.get("split"), bag.string("split")?.as_deref()) {
        (None, _) | (_, Some("train")) => Ok(Split::Train),
        (_, Some("val")) => Ok(Split::Val),
        (Some(value), _) => Err(wrong_type(&format!("`split` of `{source}`"), value, "\"train\" or \"val\"")),
    }
}

/// Two 16-bit values, of which the second is above the first.
fn levels(source: &str, bag: &Bag) -> Result<Option<(u16, u16)>, Diagnostic> {
    let what = &format!("`range` of `{source}`");
    let Some(value) = bag.get("range") else { return Ok(None) };
    let Kind::Range(range) = &value.kind else {
        let top = value.whole().filter(|top| (1..=65535).contains(top));
        let help = top.map(|top| format!("write `range: 0..{top}`"));
        return Err(wrong_type(what, value, "a range of values such as 0..4095").maybe_help(help));
    };
    let (Some(low), Some(high)) = (range.0.whole(), range.1.whole()) else {
        return Err(wrong_type(what, value, "a range of whole numbers such as 0..4095"));
    };
    match (u16::try_from(low), u16::try_from(high)) {
        (Ok(low), Ok(high)) if low < high => Ok(Some((low, high))),
        _ => {
            let message = format!("{what} is {value}: two values of 16 bits, 0 to 65535, the second above the first");
            Err(Diagnostic::new(Code::OutOfRange, message)
                .label(value.span, "out of range")
                .help("write `range: 0..4095` for pictures of 12 bits"))
        }
    }
}

fn shapes(bag: &Bag) -> Made {
    let split = split("shapes", bag)?;
    let spec = ShapesSpec {
        split,
        count: bag.count("count", if split == Split::Train { 8000 } else { 1000 })?,
        size: bag.size("size")?.unwrap_or((48, 48)),
        classes: bag.count("classes", 10)?,
        // At these a small encoder learns within minutes what raw pixels do not show: see docs/shapes.md.
        color: bag.ratio("color", 0.5)?,
        position: bag.ratio("position", 1.0)?,
        scale: bag.ratio("scale", 0.5)?,
        rotation: bag.ratio("rotation", 0.2)?,
        background: bag.ratio("background", 1.0)?,
        texture: bag.ratio("texture", 0.0)?,
    };
    Ok(Kind::NewSource(SourceSpec::Shapes(spec)))
}
