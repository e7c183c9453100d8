//! Figures of an evaluation: a line for people, and values for the metrics.
//!
//! Names of values begin with that of the evaluation: `knn_accuracy`, `knn_accuracy_untrained`, `knn_accuracy_raw_pixels`, and of
//! each setting that was tried `knn_accuracy_k10`. What tells collapse is of `features`; of another value it begins with the
//! evaluation's name too. Of logits there are `classify_accuracy`, which is top-1, `classify_top5`, `classify_cross_entropy`,
//! `classify_calibration_error`; of pixels `segment_mean_iou`, `segment_pixels_right`, `segment_classes_right`.

use serde_json::{Map, Value, json};

use super::session::Baseline;
use crate::eval::collapse::Collapse;
use crate::eval::quality::{Accuracy, Setting};
use crate::eval::{Classified, Quality, Segmented};
use crate::spec::{Classification, Evaluation, Segmentation};

pub(super) struct Figures {
    /// What stands behind "after 5 epochs:".
    pub line: String,
    pub values: Map<String, Value>,
}

/// What was found of logits: of pictures and of pixels, each with what asked for it.
#[derive(Default)]
pub(super) struct OfLogits<'p> {
    pub classified: Vec<(&'p Classification, Classified)>,
    pub segmented: Vec<(&'p Segmentation, Segmented)>,
}

impl Figures {
    /// Of those evaluations that were due.
    pub fn of(due: &[&Evaluation], quality: &Quality, baseline: &Baseline, of_logits: &OfLogits<'_>) -> Figures {
        let mut told = Vec::new();
        let mut values = Map::new();
        let mut put = |name: &str, value: f64| drop(values.insert(name.to_owned(), json!(value)));
        for evaluation in due {
            let name = &evaluation.name;
            let of = |quality: &Quality| quality.accuracy(name).map(|found| found.share);
            let known = (quality.accuracy(name), of(&baseline.untrained), of(&baseline.pixels));
            let (Some(found), Some(untrained), Some(pixels)) = known else { continue };
            told.push(told_of(evaluation, found, (untrained, pixels)));
            put(&format!("{name}_accuracy"), found.share);
            put(&format!("{name}_accuracy_untrained"), untrained);
            put(&format!("{name}_accuracy_raw_pixels"), pixels);
            // One alone is the figure itself.
            for (setting, share) in found.tried.iter().filter(|_| found.tried.len() > 1) {
                put(&format!("{name}_accuracy_{}", setting.key()), *share);
            }
            if let Some(Setting::Rate(rate)) = found.best {
                put(&format!("{name}_learning_rate"), rate.learning_rate);
            }
            put("chance", found.chance);
            // kNN's own figures were named before others came.
            let prefix = if name == "knn" { String::new() } else { format!("{name}_") };
            if found.own > 0 {
                put(&format!("{prefix}left_one_out"), found.own as f64);
            }
            if found.trained_on > 0 {
                put(&format!("{prefix}trained_on"), found.trained_on as f64);
            }
            let (known, asked) = found.words;
            let asked = if asked == "queries" { "query" } else { asked };
            for (word, taken) in [(known, found.bank), (asked, found.asked)] {
                if !taken.is_all() {
                    put(&format!("{prefix}{word}_pictures"), taken.pictures as f64);
                }
            }
        }
        for (output, collapse) in &quality.collapse {
            let of = due.iter().find(|evaluation| evaluation.output == *output && output != "features");
            let prefix = of.map_or(String::new(), |evaluation| format!("{}_", evaluation.name));
            let features = of.map_or("features".to_owned(), |evaluation| format!("features of {}", evaluation.name));
            told.push(match told.is_empty() {
                false => format!("{features}: {}", rank(collapse)),
                true => format!("{features}: {}", spelled(collapse)),
            });
            put(&format!("{prefix}feature_std"), collapse.std);
            put(&format!("{prefix}feature_std_uniform"), collapse.uniform_std);
            put(&format!("{prefix}effective_rank"), collapse.effective_rank);
            put(&format!("{prefix}mean_cosine"), collapse.mean_cosine);
            put(&format!("{prefix}uniformity"), collapse.uniformity);
        }
        for (Classification { name, .. }, found) in &of_logits.classified {
            let top5 = found.top5.map_or_else(String::new, |share| format!(", top-5 {}", percent(share)));
            let of = if name == "classify" { String::new() } else { format!("{name}: ") };
            told.push(format!(
                "{of}top-1 {}{top5}, cross entropy {:.3}, calibration error {}",
                percent(found.top1),
                found.cross_entropy,
                percent(found.calibration_error)
            ));
            put(&format!("{name}_accuracy"), found.top1);
            found.top5.iter().for_each(|share| put(&format!("{name}_top5"), *share));
            put(&format!("{name}_cross_entropy"), found.cross_entropy);
            put(&format!("{name}_calibration_error"), found.calibration_error);
        }
        for (Segmentation { name, .. }, found) in &of_logits.segmented {
            let of = if name == "segment" { String::new() } else { format!("{name}: ") };
            told.push(format!(
                "{of}mean IoU {}, accuracy of pixels {}, of classes {}",
                percent(found.mean_iou),
                percent(found.pixel_accuracy),
                percent(found.class_accuracy)
            ));
            put(&format!("{name}_mean_iou"), found.mean_iou);
            put(&format!("{name}_pixels_right"), found.pixel_accuracy);
            put(&format!("{name}_classes_right"), found.class_accuracy);
        }
        let broken: usize = quality.left_out.iter().map(|left_out| left_out.broken).sum();
        if broken > 0 {
            put("broken_pictures", broken as f64);
        }
        Figures { line: format!(" {}", told.join("; ")), values }
    }
}

fn told_of(evaluation: &Evaluation, found: &Accuracy, (untrained, pixels): (f64, f64)) -> String {
    let mut beside = found.settings();
    beside.extend(found.terms());
    beside.push(format!("untrained encoder {}", percent(untrained)));
    beside.push(format!("raw pixels {}", percent(pixels)));
    let title = evaluation.title();
    format!("{title} accuracy{} {}{}", found.leave_one_out(), percent(found.share), in_brackets(&beside))
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// ` (one, another)`, or nothing.
pub(super) fn in_brackets(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) }
}

fn rank(collapse: &Collapse) -> String {
    format!(
        "effective rank {:.1} of {:.0}",
        collapse.effective_rank,
        1.0 / (collapse.uniform_std * collapse.uniform_std)
    )
}

/// All of them.
pub(super) fn spelled(collapse: &Collapse) -> String {
    format!(
        "{}, deviation {:.4} (spread evenly: {:.4}), mean cosine {:.3}, uniformity {:.2}",
        rank(collapse),
        collapse.std,
        collapse.uniform_std,
        collapse.mean_cosine,
        collapse.uniformity
    )
}
