//! TensorBoard's event file of a run, decoded by hand, and by TensorBoard where it is installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{fail, root, succeed, tool};
use crate::runs::{SMALL, killed_after, metrics, text, with};

/// What an event file holds: scalars as (tag, step, value), pictures as (step, width, height, channels, PNG).
#[derive(Default)]
struct Decoded {
    scalars: Vec<(String, u64, f32)>,
    pictures: Vec<(u64, [u64; 3], Vec<u8>)>,
    wall_times: Vec<f64>,
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> u64 {
        let Field::Number(number) = self else { panic!("a number is expected") };
        *number
    }

    fn bytes(&self) -> &'a [u8] {
        let Field::Bytes(bytes) = self else { panic!("bytes are expected") };
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("names are UTF-8")
    }
}

/// CRC-32C (Castagnoli), bit by bit.
fn sum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

fn masked(bytes: &[u8]) -> u32 {
    sum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn number<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (number, rest) = bytes.split_at(N);
    *bytes = rest;
    number.try_into().expect("N bytes were taken")
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let [byte] = number::<1>(bytes);
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The fields of a message, by number.
fn message(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(number(&mut bytes))),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(content)
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(number(&mut bytes)))),
            kind => panic!("wire type {kind}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The messages of the records, every sum checked; all bytes belong to whole records.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length: [u8; 8] = number(&mut bytes);
        assert_eq!(u32::from_le_bytes(number(&mut bytes)), masked(&length), "the sum of a length");
        let (content, rest) = bytes.split_at(u64::from_le_bytes(length) as usize);
        bytes = rest;
        assert_eq!(u32::from_le_bytes(number(&mut bytes)), masked(content), "the sum of a message");
        found.push(content);
    }
    found
}

fn file(run: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(run.join("events"))
        .expect("a run has events")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    let [file] = &files[..] else { panic!("one file is expected: {files:?}") };
    assert!(text(file).contains("/events.out.tfevents."), "TensorBoard goes by the name: {}", file.display());
    file.clone()
}

fn decode(run: &Path) -> Decoded {
    let bytes = fs::read(file(run)).expect("it can be read");
    let mut decoded = Decoded::default();
    for (index, record) in records(&bytes).into_iter().enumerate() {
        let mut step = 0;
        for (field, value) in message(record) {
            match field {
                1 => decoded.wall_times.push(f64::from_bits(value.number())),
                2 => step = value.number(),
                3 => assert_eq!((index, value.text()), (0, "brain.Event:2".to_owned())),
                // That the session starts.
                7 => assert_eq!((index, value.bytes()), (1, &[8, 1][..])),
                5 => message(value.bytes()).iter().for_each(|(field, value)| {
                    assert_eq!(*field, 1);
                    summary(&mut decoded, step, value.bytes());
                }),
                field => panic!("field {field} of an event"),
            }
        }
    }
    decoded
}

fn summary(decoded: &mut Decoded, step: u64, value: &[u8]) {
    let mut tag = String::new();
    for (field, value) in message(value) {
        match field {
            1 => tag = value.text(),
            2 => decoded.scalars.push((tag.clone(), step, f32::from_bits(value.number() as u32))),
            4 => {
                assert_eq!(tag, "reconstructions");
                let fields: BTreeMap<u64, Field<'_>> = message(value.bytes()).into_iter().collect();
                let size = [2, 1, 3].map(|field| fields[&field].number());
                decoded.pictures.push((step, size, fields[&4].bytes().to_vec()));
            }
            field => panic!("field {field} of a value"),
        }
    }
}

/// The scalars that `metrics.jsonl` tells of, in its order.
fn expected(run: &Path) -> Vec<(String, u64, f32)> {
    let mut found = Vec::new();
    for line in metrics(run) {
        let step = line["step"].as_u64().expect("each line has a step");
        for (key, value) in line.as_object().expect("each line is an object") {
            match value {
                Value::Object(group) => group.iter().for_each(|(name, value)| {
                    found.extend(value.as_f64().map(|value| (format!("{key}/{name}"), step, value as f32)));
                }),
                _ if key == "step" || key == "wall_time" => {}
                value => found.push((key.clone(), step, value.as_f64().expect("a number") as f32)),
            }
        }
    }
    found
}

/// Holds the events against the files of the run.
fn agrees(run: &Path, pictures: usize) -> Decoded {
    let decoded = decode(run);
    assert_eq!(decoded.scalars, expected(run));
    assert_eq!(decoded.pictures.len(), pictures, "pictures");
    for (step, [width, height, channels], png) in &decoded.pictures {
        let path = run.join(format!("reconstructions/step-{step:08}.png"));
        assert!(fs::read(path).expect("the picture is there") == *png, "the picture of step {step} is another");
        let image = image::load_from_memory(png).expect("it is a PNG");
        assert_eq!((u64::from(image.width()), u64::from(image.height())), (*width, *height));
        assert_eq!((u64::from(image.color().channel_count()), &png[1..4]), (*channels, &b"PNG"[..]));
    }
    assert!(decoded.wall_times.iter().all(|time| *time > 1.7e9), "times are now: {:?}", decoded.wall_times);
    decoded
}

#[test]
fn events_hold_what_metrics_and_pictures_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out)]);
    succeed(&arguments);
    let decoded = agrees(&out, 1);
    let tags: Vec<&str> = decoded.scalars.iter().map(|(tag, ..)| tag.as_str()).collect();
    for tag in [
        "loss",
        "losses/reconstruction",
        "losses/contrastive",
        "monitors/pairs.top1",
        "learning_rate",
        "images_per_second",
        "data_wait_ms",
        "evaluation/knn_accuracy",
        "evaluation/knn_accuracy_untrained",
        "evaluation/effective_rank",
    ] {
        assert!(tags.contains(&tag), "`{tag}` is missing: {tags:?}");
    }
    assert_eq!(tags.contains(&"memory_mb"), cfg!(target_os = "linux"));
    // Evaluations and pictures of the last step are not made again.
    succeed(&with(&arguments, &["--resume"]));
    let again = agrees(&out, 1);
    assert!((again.scalars, again.pictures) == (decoded.scalars, decoded.pictures));
}

#[test]
fn a_resumed_run_has_no_doubled_and_no_torn_events() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out), "--threads", "2"]);
    killed_after(10, &arguments, &out);
    // As a kill amid a record leaves it, and a file that a kill between renaming and removing left.
    let path = file(&out);
    let mut bytes = fs::read(&path).expect("it can be read");
    bytes.truncate(bytes.len() - 5);
    fs::write(&path, &bytes).expect("it can be written");
    fs::write(out.join("events/events.out.tfevents.0000000001.cmae"), &bytes).expect("it can be written");
    succeed(&with(&arguments, &["--resume"]));
    let decoded = agrees(&out, 1);
    let steps: Vec<u64> = decoded.scalars.iter().filter(|s| s.0 == "loss").map(|s| s.1).collect();
    assert_eq!(steps, (1..=20).collect::<Vec<u64>>());
}

#[test]
fn events_that_cannot_be_written_are_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    fs::create_dir(&out).expect("a temporary folder");
    fs::write(out.join("events"), "in the way").expect("a temporary folder");
    let error = fail(&with(&SMALL, &["--out", text(&out)]));
    assert!(error.contains("cannot make") && error.contains("events"), "{error}");
}

/// Prints what TensorBoard itself reads in the folder that it is given, as JSON.
const READER: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'images': 0})
events.Reload()
tags = events.Tags()
print(json.dumps({
    'scalars': {tag: [[e.step, e.value, e.wall_time] for e in events.Scalars(tag)] for tag in tags['scalars']},
    'images': {tag: [[e.step, e.width, e.height, len(e.encoded_image_string)] for e in events.Images(tag)]
               for tag in tags['images']},
}))
";

/// A Python that has TensorBoard: named by `TENSORBOARD_PYTHON`, in `target/`, or the machine's.
fn python_with_tensorboard() -> Option<PathBuf> {
    let named = std::env::var_os("TENSORBOARD_PYTHON").map(PathBuf::from);
    let ours = root("target/tensorboard/bin/python");
    let has_it = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", "import tensorboard"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    named.into_iter().chain([ours, PathBuf::from("python3")]).find(has_it)
}

#[test]
fn tensorboard_reads_the_same() {
    let install = "python3 -m venv target/tensorboard && target/tensorboard/bin/pip install tensorboard";
    let Some(python) = tool("tensorboard", python_with_tensorboard(), install) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    succeed(&with(&SMALL, &["--out", text(&out)]));
    let output = Command::new(&python).args(["-c", READER, text(&out.join("events"))]).output().expect("it is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let read: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{said}"));
    let mut by_tag: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    expected(&out).into_iter().for_each(|(tag, step, value)| by_tag.entry(tag).or_default().push((step, value)));
    let found: BTreeMap<String, Vec<(u64, f32)>> = read["scalars"]
        .as_object()
        .expect("an object")
        .iter()
        .map(|(tag, events)| {
            let event = |e: &Value| (e[0].as_u64().expect("a step"), e[1].as_f64().expect("a value") as f32);
            (tag.clone(), events.as_array().expect("a list").iter().map(event).collect())
        })
        .collect();
    assert_eq!(found, by_tag);
    assert!(found.len() > 8, "{:?}", found.keys());
    let times: Vec<&Value> = read["scalars"]["loss"].as_array().expect("a list").iter().map(|e| &e[2]).collect();
    let written = metrics(&out);
    let written: Vec<&Value> = written.iter().filter(|l| l.get("loss").is_some()).map(|l| &l["wall_time"]).collect();
    assert_eq!(times, written);
    let png = fs::read(out.join("reconstructions/step-00000020.png")).expect("it was drawn");
    let size = image::load_from_memory(&png).expect("it is a PNG");
    assert_eq!(read["images"]["reconstructions"], serde_json::json!([[20, size.width(), size.height(), png.len()]]));
}
