//! Sources that are read from other files than a folder of pictures, each small, by name: what both test binaries need of them.
//!
//! **Invariant:** values and label of picture `number` hang on that number alone; a source has them in its own order.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use cmae::spec::{ArrayLayout, CifarKind, Shuffle, SourceSpec, Split};

/// A source and the files that it is read from.
pub struct Made {
    pub name: &'static str,
    /// By their path below a root.
    pub files: Vec<(String, Vec<u8>)>,
    /// As a pipeline writes it, with `ROOT` where the root stands.
    pub text: &'static str,
    pub spec: fn(&str) -> SourceSpec,
    /// The number of each picture.
    pub pictures: Vec<usize>,
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

/// An array as NumPy saves it, of `values` in C's order.
pub fn npy(of: &str, fortran: bool, shape: &[usize], values: &[f32]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let header = format!("{{'descr': '{of}', 'fortran_order': {order}, 'shape': ({},), }}\n", sides.join(", "));
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    // Places in the file, from the one that runs fastest.
    for place in 0..values.len() {
        let (mut rest, mut index) = (place, 0);
        if fortran {
            for (axis, side) in shape.iter().enumerate() {
                index += rest % side * shape[axis + 1..].iter().product::<usize>();
                rest /= side;
            }
        } else {
            index = place;
        }
        let value = values[index];
        match of {
            "|u1" => bytes.push(value as u8),
            "<u2" => bytes.extend((value as u16).to_le_bytes()),
            ">u2" => bytes.extend((value as u16).to_be_bytes()),
            "<f4" => bytes.extend(value.to_le_bytes()),
            _ => bytes.extend(value.to_be_bytes()),
        }
    }
    bytes
}

/// Sides of the arrays.
const ROWS: usize = 5;
const COLUMNS: usize = 4;
pub const BANDS: usize = 12;

/// Arrays of 12 channels in three class folders, of every type and order.
fn arrays(count: usize) -> Vec<(String, Vec<u8>)> {
    let types = ["|u1", "<u2", ">u2", "<f4", ">f4"];
    let file = |number: usize| {
        let plane = |place: usize| f32::from(value(number, place));
        let (shape, values): (_, Vec<f32>) = if number.is_multiple_of(2) {
            ([BANDS, ROWS, COLUMNS], (0..BANDS * ROWS * COLUMNS).map(plane).collect())
        } else {
            let place = |at: usize| at % BANDS * ROWS * COLUMNS + at / BANDS;
            ([ROWS, COLUMNS, BANDS], (0..BANDS * ROWS * COLUMNS).map(|at| plane(place(at))).collect())
        };
        let bytes = npy(types[number % types.len()], number % 4 > 1, &shape, &values);
        (format!("arrays/{}/{number:02}.npy", ["a", "b", "c"][label(number)]), bytes)
    };
    (0..count).map(file).collect()
}

/// A PNG of 6 × 5 pixels whose planes hold `value`.
pub fn png(number: usize) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(6, 5, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| value(number, channel * 30 + (y * 6 + x) as usize)))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("memory takes it");
    bytes.into_inner()
}

/// A TIFF of one picture without compression, whose values are `value(number, channel · pixels + pixel)` times `factor`.
pub fn tiff(number: usize, bands: usize, bits: u16, by_plane: bool, turned: bool) -> Vec<u8> {
    let (height, width) = (3, 2);
    let pixels = height * width;
    let mut data = Vec::new();
    for at in 0..bands * pixels {
        let place = if by_plane { at } else { at % bands * pixels + at / bands };
        let level = u16::from(value(number, place));
        match bits {
            8 => data.push(level as u8),
            _ => data.extend((level * 257).to_le_bytes()),
        }
    }
    let planes = if by_plane { bands } else { 1 };
    let plane = data.len() / planes;
    // Lists lie behind the directory, the pixels behind them.
    let entries = 11;
    let lists = 8 + 2 + 12 * entries + 4;
    let (offsets, counts) = (lists + 2 * bands, lists + 2 * bands + 4 * planes);
    let begin = counts + 4 * planes;
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries as u16).to_le_bytes());
    let mut entry = |tag: u16, kind: u16, count: usize, value: usize| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend((count as u32).to_le_bytes());
        bytes.extend((value as u32).to_le_bytes());
    };
    let strip = |list: usize, one: usize| if planes == 1 { one } else { list };
    entry(256, 3, 1, width);
    entry(257, 3, 1, height);
    entry(258, 3, bands, if bands > 2 { lists } else { usize::from(bits) * 0x10001 });
    entry(259, 3, 1, 1);
    entry(262, 3, 1, 1);
    entry(273, 4, planes, strip(offsets, begin));
    entry(274, 3, 1, if turned { 6 } else { 1 });
    entry(277, 3, 1, bands);
    entry(278, 3, 1, height);
    entry(279, 4, planes, strip(counts, plane));
    entry(284, 3, 1, if by_plane { 2 } else { 1 });
    bytes.extend([0; 4]);
    (0..bands).for_each(|_| bytes.extend(bits.to_le_bytes()));
    (0..planes).for_each(|number| bytes.extend(((begin + number * plane) as u32).to_le_bytes()));
    (0..planes).for_each(|_| bytes.extend((plane as u32).to_le_bytes()));
    bytes.extend(data);
    bytes
}

/// A tar file of entries.
pub fn tar<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).expect("memory takes it");
    }
    builder.into_inner().expect("memory takes it")
}

/// Pictures `numbers` as WebDataset writes them, with what else may stand in a shard.
fn shard(numbers: std::ops::Range<usize>) -> Vec<u8> {
    let mut files = vec![("README".to_owned(), b"no sample".to_vec())];
    for number in numbers {
        // One name is longer than a header holds.
        let key =
            if number == 3 { format!("{}/{number:06}", "long/".repeat(40)) } else { format!("train/{number:06}") };
        let label = if number % 2 == 0 {
            (format!("{key}.cls"), format!("{}\n", label(number)).into_bytes())
        } else {
            (format!("{key}.json"), format!("{{\"label\": {}, \"caption\": \"x\"}}", label(number)).into_bytes())
        };
        // Masks and captions stand beside.
        files.extend([(format!("{key}.seg.png"), png(99)), (format!("{key}.png"), png(number)), label]);
    }
    tar(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
}

fn shards() -> Vec<(String, Vec<u8>)> {
    [0..5, 5..11, 11..12, 12..20]
        .into_iter()
        .enumerate()
        .map(|(number, range)| (format!("s/x-{:02}.tar", number + 8), shard(range)))
        .collect()
}

/// How a file of Parquet is written.
pub struct Table {
    /// Columns of a structure `{bytes, path}` and of ClassLabel, as Hugging Face has them; else of bytes and of 32 bits.
    pub nested: bool,
    pub image: &'static str,
    pub label: &'static str,
    pub compression: parquet::basic::Compression,
    /// Rows of a group.
    pub rows: usize,
    /// Names of the classes in the metadata.
    pub classes: &'static [&'static str],
    /// What stands in the place of picture `number`; nothing where it is null.
    pub picture: fn(usize) -> Option<Vec<u8>>,
    pub label_of: fn(usize) -> Option<i64>,
}

pub const TABLE: Table = Table {
    nested: true,
    image: "image",
    label: "label",
    compression: parquet::basic::Compression::SNAPPY,
    rows: 4,
    classes: &["cat", "dog", "emu"],
    picture: |number| Some(png(number)),
    label_of: |number| Some(label(number) as i64),
};

/// Pictures `numbers` as a file of Parquet, with a dictionary that holds the first of them and two rows a page.
pub fn parquet(table: &Table, numbers: std::ops::Range<usize>) -> Vec<u8> {
    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;

    let Table { image, label, .. } = table;
    let schema = match table.nested {
        true => format!(
            "message schema {{ optional group {image} {{ optional binary bytes; optional binary path (UTF8); }} optional int64 \
             {label}; }}"
        ),
        false => format!("message schema {{ required int32 {label}; optional binary {image}; }}"),
    };
    let schema = parquet::schema::parser::parse_message_type(&schema).expect("it is one");
    let features = serde_json::json!({ "info": { "features": {
        *image: { "_type": "Image" },
        *label: { "names": table.classes, "_type": "ClassLabel" },
    } } });
    let known = KeyValue::new("huggingface".to_owned(), features.to_string());
    let properties = WriterProperties::builder()
        .set_compression(table.compression)
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1)
        .set_dictionary_page_size_limit(300)
        .set_key_value_metadata((!table.classes.is_empty()).then(|| vec![known]))
        .build();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).expect("memory takes it");
    let numbers: Vec<usize> = numbers.collect();
    for rows in numbers.chunks(table.rows) {
        let mut group = writer.next_row_group().expect("the one before is closed");
        let label = |row: &usize| (table.label_of)(*row);
        while let Some(mut column) = group.next_column().expect("the one before is closed") {
            let written = match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(typed) => {
                    let is_path = typed.get_descriptor().name() == "path";
                    let value = |row: &usize| match is_path {
                        true => row.is_multiple_of(2).then(|| ByteArray::from("a.png")),
                        false => (table.picture)(*row).map(ByteArray::from),
                    };
                    let (levels, values) = levelled(rows.iter().map(value), if table.nested { 2 } else { 1 });
                    typed.write_batch(&values, Some(&levels), None)
                }
                ColumnWriter::Int64ColumnWriter(typed) => {
                    let (levels, values) = levelled(rows.iter().map(label), 1);
                    typed.write_batch(&values, Some(&levels), None)
                }
                ColumnWriter::Int32ColumnWriter(typed) => {
                    let values: Vec<i32> = rows.iter().filter_map(label).map(|label| label as i32).collect();
                    typed.write_batch(&values, None, None)
                }
                _ => unreachable!("the schemas above have no other columns"),
            };
            written.expect("memory takes it");
            column.close().expect("memory takes it");
        }
        group.close().expect("memory takes it");
    }
    writer.into_inner().expect("memory takes it")
}

/// How deep each value is there, `full` where all of it is, and the values that are.
fn levelled<T>(values: impl Iterator<Item = Option<T>>, full: i16) -> (Vec<i16>, Vec<T>) {
    let values: Vec<Option<T>> = values.collect();
    (values.iter().map(|value| full - i16::from(value.is_none())).collect(), values.into_iter().flatten().collect())
}

/// Of `count` numbers, first all of the first class.
fn by_class(count: usize) -> Vec<usize> {
    (0..3).flat_map(|class| (0..count).filter(move |number| label(*number) == class)).collect()
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
            pictures: (0..15).collect(),
            channels: 3,
            classes: ten,
        },
        Made {
            name: "cifar100",
            files: vec![("cifar-100-binary/test.bin".to_owned(), cifar(2, 0..14))],
            text: "cifar100(\"ROOT\", split: \"val\")",
            spec: |root| SourceSpec::Cifar { kind: CifarKind::Cifar100, path: root.to_owned(), split: Split::Val },
            pictures: (0..14).collect(),
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
            pictures: (0..20).collect(),
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
            pictures: (0..20).collect(),
            channels: 1,
            classes: numbers(3),
        },
        Made {
            name: "tar_shards",
            files: shards(),
            text: "tar_shards(\"ROOT/s/x-{08..11}.tar\")",
            spec: |root| SourceSpec::TarShards {
                path: format!("{root}/s/x-{{08..11}}.tar"),
                range: None,
                shuffle: Shuffle::All,
            },
            pictures: (0..20).collect(),
            channels: 3,
            classes: numbers(3),
        },
        Made {
            name: "tar_shards by shards",
            files: shards().into_iter().chain([("s/classes.txt".to_owned(), b"cat\ndog\nemu\n".to_vec())]).collect(),
            text: "tar_shards(\"ROOT/s\", range: 0..65535, shuffle: \"shards\")",
            spec: |root| SourceSpec::TarShards {
                path: format!("{root}/s"),
                range: Some((0, 65535)),
                shuffle: Shuffle::Shards,
            },
            pictures: (0..20).collect(),
            channels: 3,
            classes: named(&["cat", "dog", "emu"]),
        },
        Made {
            name: "parquet",
            files: [0..9, 9..13]
                .into_iter()
                .enumerate()
                .map(|(number, rows)| (format!("p/train-{number:05}-of-00002.parquet"), parquet(&TABLE, rows)))
                .collect(),
            text: "parquet(\"ROOT/p\")",
            spec: |root| SourceSpec::Parquet {
                path: format!("{root}/p"),
                image: "image".to_owned(),
                label: None,
                range: None,
                shuffle: Shuffle::All,
            },
            pictures: (0..13).collect(),
            channels: 3,
            classes: named(&["cat", "dog", "emu"]),
        },
        Made {
            name: "parquet by row groups",
            files: [0..5, 5..16]
                .into_iter()
                .enumerate()
                .map(|(number, rows)| {
                    let compression = [
                        parquet::basic::Compression::UNCOMPRESSED,
                        parquet::basic::Compression::GZIP(Default::default()),
                    ][number];
                    let table = Table {
                        nested: false,
                        image: "img",
                        label: "fine",
                        compression,
                        rows: 5,
                        classes: &[],
                        ..TABLE
                    };
                    (format!("{number}.parquet"), parquet(&table, rows))
                })
                .collect(),
            text: "parquet(\"ROOT/{0..1}.parquet\", image: \"img\", label: \"fine\", range: 0..65535, shuffle: \"shards\")",
            spec: |root| SourceSpec::Parquet {
                path: format!("{root}/{{0..1}}.parquet"),
                image: "img".to_owned(),
                label: Some("fine".to_owned()),
                range: Some((0, 65535)),
                shuffle: Shuffle::Shards,
            },
            pictures: (0..16).collect(),
            channels: 3,
            classes: numbers(3),
        },
        Made {
            name: "image_folder of bands",
            files: (0..9)
                .map(|number| {
                    let bytes = tiff(number, BANDS, [8, 16][number % 2], number % 3 == 1, false);
                    (format!("{}/{number}.tif", ["a", "b", "c"][label(number)]), bytes)
                })
                .collect(),
            text: "image_folder(\"ROOT\")",
            spec: |root| SourceSpec::ImageFolder { path: root.to_owned(), range: None, label_maps: None },
            pictures: by_class(9),
            channels: BANDS,
            classes: named(&["a", "b", "c"]),
        },
        Made {
            name: "npy",
            files: arrays(20),
            text: "npy(\"ROOT/arrays\", range: 0..255)",
            spec: |root| SourceSpec::Npy { path: format!("{root}/arrays"), range: Some((0.0, 255.0)), layout: None },
            pictures: by_class(20),
            channels: BANDS,
            classes: named(&["a", "b", "c"]),
        },
        Made {
            name: "npy of a layout",
            files: (0..8)
                .map(|number| {
                    let values: Vec<f32> = (0..36).map(|place| f32::from(value(number, place)) / 255.0).collect();
                    // Of three axes of three, that of the channels cannot be told.
                    (format!("{}/{number}.npy", ["a", "b", "c"][label(number)]), npy("<f4", false, &[3, 4, 3], &values))
                })
                .collect(),
            text: "npy(\"ROOT\", layout: \"chw\")",
            spec: |root| SourceSpec::Npy { path: root.to_owned(), range: None, layout: Some(ArrayLayout::Chw) },
            pictures: by_class(8),
            channels: 3,
            classes: named(&["a", "b", "c"]),
        },
    ]
}
