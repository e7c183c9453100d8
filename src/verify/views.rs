//! View steps against those of another library, on one picture: files whose config lists steps by name.
//!
//! Before: a script wrote `input.photo` [C, H, W], in 8 bits, and what lists of steps make of it: `out.NAME`. After: `cmaec verify
//! views` prints the [`ViewsReport`].
//!
//! **Invariant:** no tensor of the file is passed over in silence: each is made by the steps of its name and compared, or an error.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::file::Fixture;
use crate::data::Image;
use crate::data::view::augment::{Magnitude, Operation};
use crate::data::view::geometry::{self, Window};
use crate::data::view::{blur, color, normalize};
use crate::spec::{Interpolation, MAX_PIXELS, Scaling};

/// Steps that are known, by torchvision's names; `augment` is an operation of its `RandAugment`.
const KINDS: [&str; 11] = [
    "resized_crop",
    "hflip",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "grayscale",
    "blur",
    "solarize",
    "augment",
    "normalize",
];

/// Why a file of view steps cannot be compared.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ViewsError {
    #[error(
        "the file has no picture `input.photo` of whole numbers within 0..=255, [C, H, W] (help: cmaec verify PIPELINE --against FILE for tensors of a pipeline)"
    )]
    NoPhoto,
    #[error("the file's config has no `steps`: lists of [step, arguments] by name")]
    NoSteps,
    #[error("`{name}`: there is no step `{kind}` (help: {})", KINDS.join(", "))]
    UnknownStep { name: String, kind: String },
    #[error("`{name}`: `{argument}` of `{kind}` is {found}, {wanted} is wanted")]
    Argument { name: String, kind: String, argument: String, found: String, wanted: &'static str },
    #[error("`{name}`: `{kind}` follows `normalize`, whose result is no picture of 8 bits")]
    AfterNormalize { name: String, kind: String },
    #[error("the file lists steps `{name}`, and has no tensor `out.{name}`")]
    NoResult { name: String },
    #[error("tensor `{name}` is not made by any steps of the file")]
    NoStepsFor { name: String },
}

/// How far a result may lie from torchvision's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Of any value, in levels of 255, or in normalised units.
    pub most: f64,
    /// Share of values that may differ by more than a tenth of `most`.
    pub share: f64,
    /// Mean distance.
    pub mean: f64,
}

impl Limits {
    /// What the files advise in words, by the name of the result. Both libraries round to 8 bits after each step and between the
    /// passes of a resize; a float result shows both roundings: half a level each, the first one spread by the second pass.
    fn of(group: &str, name: &str, steps: &[Value]) -> Limits {
        let is_augment = |step: &Value| step.get(0).and_then(Value::as_str) == Some("augment");
        let (most, share, mean) = match name.split(['_', '.']).next() {
            _ if group == "out_float" => (1.2, 1.0, 0.35),
            // Whole numbers, or f32 in the same order of operations.
            _ if steps.last().is_some_and(is_augment) => (0.0, 0.0, 0.0),
            Some("crop") => (1.0, 0.05, 0.05),
            Some("jitter") => (3.0, 1.0, 0.1),
            Some("normalize") => (0.02, 1.0, 0.001),
            Some("view") => (0.07, 1.0, 0.005),
            _ => (1.0, 0.01, 0.01),
        };
        Limits { most, share, mean }
    }
}

/// One result beside its reference. Distances are NaN where there are as many values as in no picture of that size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewRow {
    pub name: String,
    pub shape: Vec<usize>,
    pub largest: f64,
    /// Of values that differ by more than a tenth of the largest distance allowed.
    pub share: f64,
    pub mean: f64,
    pub limits: Limits,
    pub ok: bool,
}

/// All results of a file, in the order of its tensors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewsReport {
    pub rows: Vec<ViewRow>,
}

/// Applies the file's steps to its picture and compares what comes out.
///
/// # Errors
/// Where the file has no picture or steps, or they and its results do not fit, or a step or an argument is not known.
pub fn verify_views(file: &Fixture) -> Result<ViewsReport, ViewsError> {
    let photo = photo(file).ok_or(ViewsError::NoPhoto)?;
    let lists = file.config.0.get("steps").and_then(Value::as_object).ok_or(ViewsError::NoSteps)?;
    if let Some(name) = lists.keys().find(|name| file.tensor(&format!("out.{name}")).is_none()) {
        return Err(ViewsError::NoResult { name: name.clone() });
    }
    let mut rows = Vec::new();
    for (full_name, reference) in file.tensors.iter().filter(|(name, _)| name != "input.photo") {
        let unknown = || ViewsError::NoStepsFor { name: full_name.clone() };
        let (group, name) =
            full_name.split_once('.').filter(|(g, _)| ["out", "out_float"].contains(g)).ok_or_else(unknown)?;
        let steps = lists.get(name).and_then(Value::as_array).ok_or_else(unknown)?;
        let Made { shape, values } = applied(name, steps, photo.clone())?;
        let mut expected = reference.values.to_f64();
        if group == "out_float" {
            // Overshoot is cut off where pictures are.
            expected.iter_mut().for_each(|v| *v = v.clamp(0.0, 255.0));
        }
        let same_shape = shape == reference.shape && values.len() == expected.len();
        let limits = Limits::of(group, name, steps);
        let distances: Vec<f64> = values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
        let count = distances.len().max(1) as f64;
        let [largest, share, mean] = if same_shape {
            let off = distances.iter().filter(|distance| **distance > limits.most / 10.0).count() as f64;
            [distances.iter().copied().fold(0.0, f64::max), off / count, distances.iter().sum::<f64>() / count]
        } else {
            [f64::NAN; 3]
        };
        // A value that is no number makes the mean none, which passes nowhere.
        let ok = same_shape && largest <= limits.most && share <= limits.share && mean <= limits.mean;
        rows.push(ViewRow {
            name: full_name.clone(),
            shape: reference.shape.clone(),
            largest,
            share,
            mean,
            limits,
            ok,
        });
    }
    Ok(ViewsReport { rows })
}

/// `[C, H, W]` levels as an image.
fn photo(file: &Fixture) -> Option<Image> {
    let tensor = file.tensor("input.photo")?;
    let [channels, height, width] = tensor.shape[..] else { return None };
    let values = tensor.values.to_f64();
    let levels = values.iter().all(|v| (0.0..=255.0).contains(v) && v.fract() == 0.0);
    let at = |i: usize| values[(i % channels) * height * width + i / channels] as u8;
    (levels && !values.is_empty()).then(|| Image::new(height, width, channels, (0..values.len()).map(at).collect()))
}

/// What steps gave, as [C, H, W].
struct Made {
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn applied(name: &str, steps: &[Value], mut image: Image) -> Result<Made, ViewsError> {
    for (at, step) in steps.iter().enumerate() {
        let kind = step.get(0).and_then(Value::as_str).unwrap_or_default();
        let arguments = Arguments { name, kind, values: step.get(1).unwrap_or(&Value::Null) };
        if kind == "normalize" {
            if let Some(next) = steps.get(at + 1) {
                let kind = next.get(0).and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(ViewsError::AfterNormalize { name: name.to_owned(), kind });
            }
            let scaling = arguments.scaling(image.channels)?;
            let shape = vec![image.channels, image.height, image.width];
            return Ok(Made { shape, values: normalize(&image, &scaling).into_iter().map(f64::from).collect() });
        }
        image = applied_one(&arguments, image)?;
    }
    let shape = vec![image.channels, image.height, image.width];
    Ok(Made { shape, values: color::planes(&image).into_iter().map(f64::from).collect() })
}

fn applied_one(arguments: &Arguments<'_>, image: Image) -> Result<Image, ViewsError> {
    let factor = || arguments.number(&format!("{}_factor", arguments.kind), 0.0..=1e6, "a number above zero");
    Ok(match arguments.kind {
        "resized_crop" => {
            let (window, size) = (arguments.window(&image)?, arguments.size()?);
            geometry::resized_part(&image, window, size, arguments.interpolation()?)
        }
        "hflip" => geometry::flip(image),
        "brightness" => color::brightness(image, factor()?),
        "contrast" => color::contrast(image, factor()?),
        "saturation" => color::saturation(image, factor()?),
        "hue" => color::hue(image, arguments.number("hue_factor", -0.5..=0.5, "a share of a turn within -0.5..0.5")?),
        "grayscale" => color::grayscale(image),
        "solarize" => match arguments.number("threshold", 0.0..=256.0, "a level")?.ceil() {
            threshold if threshold > 255.0 => image,
            threshold => color::solarize(image, threshold as u8),
        },
        "augment" => {
            let (magnitude, bins) = (arguments.whole("magnitude", 0..=1000)?, arguments.whole("bins", 2..=1000)?);
            if magnitude >= bins {
                return Err(arguments.wrong("magnitude", "a number below that of `bins`"));
            }
            let magnitude = Magnitude { level: magnitude, bins };
            arguments.operation()?.apply(image, magnitude, arguments.flag("negative")?)
        }
        "blur" => {
            let kernel = arguments.whole("kernel_size", 1..=4095)?;
            if kernel % 2 == 0 {
                return Err(arguments.wrong("kernel_size", "an odd number"));
            }
            blur::gaussian(image, arguments.number("sigma", 1e-6..=1e4, "a number above zero")?, kernel / 2)
        }
        _ => return Err(ViewsError::UnknownStep { name: arguments.name.to_owned(), kind: arguments.kind.to_owned() }),
    })
}

/// Arguments of one step, as JSON.
struct Arguments<'a> {
    name: &'a str,
    kind: &'a str,
    values: &'a Value,
}

impl Arguments<'_> {
    fn wrong(&self, argument: &str, wanted: &'static str) -> ViewsError {
        let found = self.values.get(argument).map_or_else(|| "missing".to_owned(), Value::to_string);
        let (name, kind, argument) = (self.name.to_owned(), self.kind.to_owned(), argument.to_owned());
        ViewsError::Argument { name, kind, argument, found, wanted }
    }

    fn number(
        &self,
        argument: &str,
        range: std::ops::RangeInclusive<f64>,
        wanted: &'static str,
    ) -> Result<f64, ViewsError> {
        let found = self.values.get(argument).and_then(Value::as_f64).filter(|number| range.contains(number));
        found.ok_or_else(|| self.wrong(argument, wanted))
    }

    fn whole(&self, argument: &str, range: std::ops::RangeInclusive<u64>) -> Result<usize, ViewsError> {
        let found = self.values.get(argument).and_then(Value::as_u64).filter(|number| range.contains(number));
        found.map(|number| number as usize).ok_or_else(|| self.wrong(argument, "a whole number that fits"))
    }

    fn operation(&self) -> Result<Operation, ViewsError> {
        let name = self.values.get("operation").and_then(Value::as_str);
        name.and_then(Operation::named).ok_or_else(|| self.wrong("operation", "one of RandAugment's, such as ShearX"))
    }

    fn flag(&self, argument: &str) -> Result<bool, ViewsError> {
        self.values.get(argument).and_then(Value::as_bool).ok_or_else(|| self.wrong(argument, "true or false"))
    }

    fn window(&self, image: &Image) -> Result<Window, ViewsError> {
        let side = |at: &str, length: &str, whole: usize| -> Result<(usize, usize), ViewsError> {
            let at = self.whole(at, 0..=whole as u64 - 1)?;
            Ok((at, self.whole(length, 1..=(whole - at) as u64)?))
        };
        let ((top, height), (left, width)) =
            (side("top", "height", image.height)?, side("left", "width", image.width)?);
        Ok(Window { top, left, height, width })
    }

    fn size(&self) -> Result<(usize, usize), ViewsError> {
        let sides: Option<Vec<u64>> = self
            .values
            .get("size")
            .and_then(Value::as_array)
            .and_then(|sides| sides.iter().map(Value::as_u64).collect());
        match sides.as_deref() {
            Some(&[height, width]) if height > 0 && width > 0 && height.saturating_mul(width) <= MAX_PIXELS as u64 => {
                Ok((height as usize, width as usize))
            }
            _ => Err(self.wrong("size", "[height, width]")),
        }
    }

    fn interpolation(&self) -> Result<Interpolation, ViewsError> {
        match self.values.get("interpolation").and_then(Value::as_str) {
            Some("bicubic") => Ok(Interpolation::Bicubic),
            Some("bilinear") => Ok(Interpolation::Bilinear),
            Some("lanczos") => Ok(Interpolation::Lanczos),
            _ => Err(self.wrong("interpolation", "bilinear, bicubic or lanczos")),
        }
    }

    fn scaling(&self, channels: usize) -> Result<Scaling, ViewsError> {
        let list = |argument: &str, wanted: &'static str| -> Result<Vec<f64>, ViewsError> {
            let list = self.values.get(argument).and_then(Value::as_array);
            let numbers: Option<Vec<f64>> = list.and_then(|list| list.iter().map(Value::as_f64).collect());
            let fits = |numbers: &Vec<f64>| {
                numbers.len() == channels && (argument == "mean" || numbers.iter().all(|v| *v > 0.0))
            };
            numbers.filter(fits).ok_or_else(|| self.wrong(argument, wanted))
        };
        let mean = list("mean", "a number for each channel")?;
        Ok(Scaling { mean, std: list("std", "a number above zero for each channel")? })
    }
}

impl ViewsReport {
    /// Whether something was compared and all of it passes.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }

    /// The last line: `all 26 results within tolerance`.
    pub fn summary(&self) -> String {
        let failed: Vec<&str> = self.rows.iter().filter(|row| !row.ok).map(|row| row.name.as_str()).collect();
        match (self.rows.len(), failed.len()) {
            (0, _) => "no result was compared".to_owned(),
            (all, 0) => format!("all {all} results within tolerance"),
            (all, bad) => format!("{} of {all} results within tolerance, not {}", all - bad, failed.join(", ")),
        }
    }

    /// A table with a line for each result, and the summary.
    pub fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("result".len());
        let mut text = format!(
            "     {:width$}  {:>12}  {:>8} {:>6}  {:>8} {:>6}  {:>8} {:>6}\n",
            "result", "shape", "largest", "of", "differ", "of", "mean", "of"
        );
        for row in &self.rows {
            let shape: Vec<String> = row.shape.iter().map(usize::to_string).collect();
            let percent = |share: f64| format!("{:.2}%", 100.0 * share);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:4} {:width$}  {:>12}  {:>8.4} {:>6}  {:>8} {:>6}  {:>8.5} {:>6}",
                if row.ok { "ok" } else { "FAIL" },
                row.name,
                shape.join("x"),
                row.largest,
                row.limits.most,
                percent(row.share),
                format!("{:.0}%", 100.0 * row.limits.share),
                row.mean,
                row.limits.mean
            );
        }
        let _ = writeln!(text, "{}", self.summary());
        text
    }

    /// The same as JSON; distances that are not numbers are `null`.
    pub fn json(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("strings, numbers and lists always serialize");
        value["ok"] = self.ok().into();
        value["summary"] = self.summary().into();
        value
    }
}
