//! What figures are called in a report.
//!
//! **Invariant:** a figure has one name, in tables and above charts.

use crate::spec::evaluate;

/// Title, unit for the cell, and whether it is a share, of a curve's key.
pub fn name(key: &str) -> (String, &'static str) {
    let title = match key {
        "loss" => "total loss",
        "images_per_second" => "images a second",
        "step_time_ms" => "time of a step, ms",
        "data_wait_ms" => "waiting for data, ms a step",
        "accelerator_idle" => "accelerator idle",
        "memory_mb" => "memory, MB",
        "evaluation/chance" => "accuracy by chance",
        "evaluation/classify_top5" => "top-5 accuracy",
        "evaluation/classify_cross_entropy" => "cross entropy of the classes",
        "evaluation/classify_calibration_error" => "calibration error",
        "evaluation/segment_mean_iou" => "mean IoU",
        "evaluation/segment_pixels_right" => "pixels that are right",
        "evaluation/segment_classes_right" => "pixels that are right, mean of classes",
        "evaluation/feature_std_uniform" => "feature std, if spread evenly",
        _ => "",
    };
    let accuracy = key.strip_prefix("evaluation/").and_then(|name| name.split_once("_accuracy"));
    if let Some((name, of)) = accuracy {
        let of = match of.trim_start_matches('_') {
            "" => String::new(),
            "untrained" => ", untrained encoder".to_owned(),
            // As [`crate::eval::quality::Setting`] names them.
            of => match (of.strip_prefix("lr"), of.strip_prefix('k')) {
                (Some(rate), _) => format!(", learning rate {}", rate.replace("_wd", ", weight decay ")),
                (None, Some(k)) if k.bytes().all(|byte| byte.is_ascii_digit()) => format!(", k = {k}"),
                _ => format!(", {}", of.replace('_', " ")),
            },
        };
        return (format!("{} accuracy{of}", evaluate::title(name)), "share");
    }
    let group = if key.starts_with("losses/") { "loss" } else { "" };
    let plain = key.rsplit('/').next().unwrap_or(key);
    let title = match (title, group) {
        ("", "loss") => format!("loss {plain}"),
        ("", _) if key.starts_with("monitors/") => plain.to_owned(),
        ("", _) => plain.replace('_', " "),
        (title, _) => title.to_owned(),
    };
    const SHARES: [&str; 5] = ["_top5", "_calibration_error", "_mean_iou", "_pixels_right", "_classes_right"];
    let is_share = key.starts_with("evaluation/") && SHARES.iter().any(|end| key.ends_with(end));
    let share = is_share || ["evaluation/chance", "accelerator_idle"].contains(&key);
    (title, if share { "share" } else { "" })
}
