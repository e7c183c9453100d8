//! TensorBoard's event file of a run: `RUN/events/events.out.tfevents.SECONDS.cmae`, found by `tensorboard --logdir` of the
//! run or of a folder of runs.
//!
//! Before: [`super::Metrics`] gives each line that it writes, and each picture. After: TensorBoard.
//! The file is TFRecords (a length, the bytes of a message, and a masked CRC-32C of each) of protobuf messages. The
//! messages are encoded by `prost`: of its dependencies only `bytes`, `anyhow` and `itertools` were not built already, and
//! messages that are declared can be read against TensorFlow's, which encoding by hand cannot.
//!
//! **Invariant:** the file holds the figures of `metrics.jsonl` and the pictures of `reconstructions/`, each once, in whole
//! records: as a session starts it is written anew from these, beside, and renamed in; what a kill tore or a resumed run
//! makes again is gone with the file before it.

mod messages;

use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::ImageDecoder;
use image::codecs::png::PngDecoder;
use prost::Message;
use serde_json::Value;

use super::figures::{WALL_TIME, figures, step, wall_time};
use super::tensor_file::write_atomically;
use super::{RunError, RunFolder};
use messages::{Content, Event, Image, SessionLog, Summary, What};

/// TensorBoard takes any file with `tfevents` in its name; ours alone are ever removed.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".cmae";
/// What pictures are called.
const PICTURES: &str = "reconstructions";

/// The open file.
pub struct Events {
    path: PathBuf,
    file: File,
    /// Step of the last picture: the one after the last step may be drawn twice.
    pictured: Option<u64>,
}

impl Events {
    /// Starts the file of the run in `folder` with what the run has so far: `lines`, and its pictures up to `last_step`.
    ///
    /// Its name holds the time: a TensorBoard that looks on reads a new file from its start, where it would go on in the
    /// middle of one that was replaced.
    pub fn open(folder: &RunFolder, lines: &[Value], last_step: u64) -> Result<Events, RunError> {
        let events = folder.path().join("events");
        fs::create_dir_all(&events).map_err(RunError::io("make", &events))?;
        let now = wall_time(SystemTime::now());
        let mut bytes = record(&Event { wall_time: now, step: 0, what: Some(What::FileVersion(VERSION.to_owned())) });
        // Tells a TensorBoard that has read the file before this one to drop what it had.
        let start = SessionLog { status: messages::START };
        bytes.extend(record(&Event { wall_time: now, step: 0, what: Some(What::SessionLog(start)) }));
        lines.iter().filter_map(|line| scalars(line, now)).for_each(|event| bytes.extend(record(&event)));
        let mut pictured = None;
        for (step, path) in pictures(folder, last_step)? {
            // One that is no picture is not of this program, which writes whole ones only.
            if let Ok(event) = picture(step, &path)? {
                bytes.extend(record(&event));
                pictured = Some(step);
            }
        }
        let path = events.join(format!("{PREFIX}{:010}{SUFFIX}", now as u64));
        write_atomically(&path, &bytes).map_err(RunError::io("write", &path))?;
        for entry in fs::read_dir(&events).map_err(RunError::io("read", &events))? {
            let other = entry.map_err(RunError::io("read", &events))?.path();
            let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if other != path && name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                fs::remove_file(&other).map_err(RunError::io("remove", &other))?;
            }
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(RunError::io("open", &path))?;
        Ok(Events { path, file, pictured })
    }

    /// Appends the figures of a line of metrics.
    pub fn line(&mut self, line: &Value) -> Result<(), RunError> {
        scalars(line, 0.0).map_or(Ok(()), |event| self.append(&event))
    }

    /// Appends the picture at `path`, unless the file holds that step's.
    pub fn picture(&mut self, step: u64, path: &Path) -> Result<(), RunError> {
        if self.pictured == Some(step) {
            return Ok(());
        }
        let event = picture(step, path)?.map_err(|message| RunError::Format { path: path.to_owned(), message })?;
        self.pictured = Some(step);
        self.append(&event)
    }

    fn append(&mut self, event: &Event) -> Result<(), RunError> {
        // One write a record: a reader that follows the file sees whole ones.
        self.file.write_all(&record(event)).map_err(RunError::io("write", &self.path))
    }
}

/// Version 2 of the format: steps may go back, and a session's start says where to.
const VERSION: &str = "brain.Event:2";

/// A line's figures; `otherwise` is the time of one that has none. `None` for a line without step or figures.
fn scalars(line: &Value, otherwise: f64) -> Option<Event> {
    let value: Vec<messages::Value> = figures(line)
        .iter()
        .map(|figure| messages::Value {
            tag: figure.path('/'),
            // The format's precision; `metrics.jsonl` has all digits.
            content: Some(Content::SimpleValue(figure.value as f32)),
        })
        .collect();
    let wall_time = line.get(WALL_TIME).and_then(Value::as_f64).unwrap_or(otherwise);
    let step = step(line).filter(|_| !value.is_empty())?;
    Some(Event { wall_time, step: step as i64, what: Some(What::Summary(Summary { value })) })
}

/// The PNG at `path`, drawn after `step` steps; the inner error says why it is no PNG.
fn picture(step: u64, path: &Path) -> Result<Result<Event, String>, RunError> {
    let bytes = fs::read(path).map_err(RunError::io("read", path))?;
    let modified = fs::metadata(path).and_then(|data| data.modified()).unwrap_or_else(|_| SystemTime::now());
    let (width, height, channels) = match PngDecoder::new(Cursor::new(&bytes)) {
        Ok(png) => (png.dimensions().0, png.dimensions().1, png.color_type().channel_count()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let image = Image {
        height: height as i32,
        width: width as i32,
        colorspace: i32::from(channels),
        encoded_image_string: bytes,
    };
    let value = messages::Value { tag: PICTURES.to_owned(), content: Some(Content::Image(image)) };
    let what = Some(What::Summary(Summary { value: vec![value] }));
    Ok(Ok(Event { wall_time: wall_time(modified), step: step as i64, what }))
}

/// The pictures of the run, up to `last_step`, in the order of their steps.
fn pictures(folder: &RunFolder, last_step: u64) -> Result<Vec<(u64, PathBuf)>, RunError> {
    let pictures = folder.path().join("reconstructions");
    let mut found = Vec::new();
    if !pictures.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(&pictures).map_err(RunError::io("read", &pictures))? {
        let path = entry.map_err(RunError::io("read", &pictures))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|name| name.strip_suffix(".png")?.parse().ok());
        if let Some(step) = step.filter(|step| *step <= last_step) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A TFRecord: `u64` length, its sum, the message, its sum; little-endian.
fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(message.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_sum(&length).to_le_bytes());
    bytes.extend(&message);
    bytes.extend(masked_sum(&message).to_le_bytes());
    bytes
}

/// The CRC-32C, turned and moved: the sum of bytes that hold their own sum would be nothing worth.
fn masked_sum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::masked_sum;

    /// RFC 3720, B.4: the CRC-32C of 32 zeros is 0x8a9136aa.
    #[test]
    fn sums_are_masked() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        // 0x8a9136aa turned right by 15 bits is 0x6d551522.
        assert_eq!(masked_sum(&[0; 32]), 0x6d55_1522u32.wrapping_add(0xa282_ead8));
    }
}
