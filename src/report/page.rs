//! The page of one run, and the frame that all pages have.
//!
//! Before: [`Run::read`]. After: [`super::write`] puts the text on disk.
//!
//! **Invariant:** nothing is loaded from anywhere: the page has no address of another file.

use std::fmt::Write;
use std::time::SystemTime;

use serde_json::Value;

use super::axis::{figure, percent, short};
use super::charts::{self, Named, Section};
use super::data;
use super::html::{date, escape, pipeline_text, script_json};
use super::pictures::Picture;
use super::read::{Run, Status};
use super::{classes, scatter, segments, tables};
use crate::run::shell;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");
/// Seconds after which a browser loads the page of a run that goes on anew.
const REFRESH: u32 = 60;

/// The page of `run`, named as its folder is.
pub fn html(run: (String, Run)) -> String {
    let runs = [run];
    let [(name, run)] = &runs;
    let mut blocks: Vec<Block> = charts::sections(&runs).iter().map(Block::of).collect();
    let classified = run.classified.as_ref().map(|found| classes::html(found, &epochs(run, found.step)));
    let map = run.map.as_ref().map(|map| scatter::html(map, "feature map", &epochs(run, map.step)));
    let by_tsne = run.neighbour_map.as_ref();
    let by_tsne = by_tsne.map(|map| scatter::html(map, "feature map by t-SNE", &epochs(run, map.step)));
    let segmented = run.segmented.as_ref().map(|found| segments::html(found, &epochs(run, found.step)));
    let figure: String = [classified, segmented, map, by_tsne].into_iter().flatten().collect();
    if !figure.is_empty() {
        match blocks.iter_mut().find(|block| block.title == "Evaluation") {
            Some(block) => {
                block.html = block.html.replacen("</div><!--grid-->", &format!("{figure}</div><!--grid-->"), 1)
            }
            None => blocks.push(Block { title: "Evaluation", html: grid(&figure) }),
        }
    }
    let at = blocks.iter().position(|block| block.title == "Evaluation").map_or(blocks.len(), |at| at + 1);
    let reconstructions =
        (!run.pictures.is_empty()).then(|| Block { title: "Reconstructions", html: reconstructions(run) });
    let neighbours =
        run.neighbours.as_ref().map(|sheet| Block { title: "Neighbours", html: contact_sheet(sheet, NEIGHBOURS) });
    let patches = run.patches.as_ref().map(|sheet| Block { title: "Patches", html: contact_sheet(sheet, PATCHES) });
    let segmented =
        run.segmented_picture.as_ref().map(|sheet| Block { title: "Segments", html: contact_sheet(sheet, SEGMENTS) });
    blocks.splice(at..at, [reconstructions, segmented, neighbours, patches].into_iter().flatten());
    blocks.push(Block { title: "Figures", html: tables::figures(run) });
    blocks.push(Block { title: "Pipeline", html: pipeline(run) });
    blocks.push(Block { title: "Versions", html: tables::versions(run) });
    let spec = &run.program.spec;
    let mut head = format!(
        "<header>\n<p class=\"kind\">cmaec report</p>\n<h1>{}</h1>\n<p class=\"sub\"><span class=\"status {2}\">{2}</span> {1} · {3}</p>\n",
        escape(&spec.name),
        escape(&run.path.display().to_string()),
        run.status.name(),
        progress(run),
    );
    if let Some(total) = run.total_steps {
        let share = (run.log.last_step as f64 / total.max(1) as f64).min(1.0) * 100.0;
        let _ = writeln!(head, "<div class=\"bar {}\"><i style=\"width:{share:.1}%\"></i></div>", run.status.name());
    }
    head += &tiles(run);
    head += "</header>\n";
    document(
        &format!("{} · {name}", spec.name),
        &head,
        &blocks,
        &run.warnings,
        data::json(&runs),
        run.status == Status::Training,
    )
}

/// A part of the page that the navigation names.
pub struct Block {
    pub title: &'static str,
    pub html: String,
}

impl Block {
    pub fn of(section: &Section) -> Block {
        let charts: String = section.charts.iter().map(|chart| chart.html()).collect();
        Block { title: section.title, html: grid(&charts) }
    }
}

/// Figures in as many columns as fit.
pub fn grid(figures: &str) -> String {
    format!("<div class=\"grid\">\n{figures}</div><!--grid-->\n")
}

/// A whole page. `lives` tells a browser to look for a newer one from time to time.
pub fn document(title: &str, head: &str, blocks: &[Block], warnings: &[String], numbers: Value, lives: bool) -> String {
    let id = |title: &str| title.to_lowercase().replace(' ', "-");
    let links: String =
        blocks.iter().map(|b| format!("<a href=\"#{}\">{}</a>", id(b.title), escape(b.title))).collect();
    let refresh = if lives { format!("<meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n") } else { String::new() };
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n{refresh}\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{head}<nav>{links}</nav>\n",
        escape(title)
    );
    if !warnings.is_empty() {
        let items: String = warnings.iter().map(|warning| format!("<li>{}</li>", escape(warning))).collect();
        let _ = writeln!(html, "<ul class=\"warnings\">{items}</ul>");
    }
    for block in blocks {
        let _ = writeln!(
            html,
            "<section id=\"{}\">\n<h2>{}</h2>\n{}</section>",
            id(block.title),
            escape(block.title),
            block.html
        );
    }
    let _ = write!(
        html,
        "<footer>written {} by cmaec {}; the numbers of the curves are in this file, as JSON in <code>#data</code></footer>\n\
         </main>\n<script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        date(SystemTime::now()),
        env!("CARGO_PKG_VERSION"),
        script_json(&numbers),
    );
    html
}

/// `epoch 12.5`, of a step.
fn epochs(run: &Run, step: u64) -> String {
    format!("epoch {}", short(run.log.epoch(step)))
}

fn progress(run: &Run) -> String {
    let total = run.total_steps.map_or_else(String::new, |total| format!(" of {total}"));
    format!(
        "epoch {} of {} · step {}{total}",
        short(run.epoch()),
        short(run.program.spec.train.epochs),
        run.log.last_step
    )
}

/// The figures that one looks for first.
fn tiles(run: &Run) -> String {
    let mut tiles: Vec<(String, String, String)> = Vec::new();
    for evaluation in &run.program.spec.evaluate.evaluations {
        let name = &evaluation.name;
        let Some(accuracy) = run.evaluation(&format!("{name}_accuracy")) else { continue };
        let beside = |key: &str, what: &str| run.evaluation(key).map(|value| format!("{what} {}", percent(value)));
        let beside = [
            beside(&format!("{name}_accuracy_untrained"), "untrained"),
            beside(&format!("{name}_accuracy_raw_pixels"), "pixels"),
            beside("chance", "chance"),
        ];
        let title = format!("{} accuracy", evaluation.title());
        tiles.push((title, percent(accuracy), beside.into_iter().flatten().collect::<Vec<_>>().join(" · ")));
    }
    if let Some(iou) = run.evaluation("segment_mean_iou") {
        let pixels = run.evaluation("segment_pixels_right").map(|value| format!("{} of pixels", percent(value)));
        tiles.push(("mean IoU".to_owned(), percent(iou), pixels.unwrap_or_default()));
    }
    if let Some(accuracy) = run.evaluation("classify_accuracy") {
        let top5 = run.evaluation("classify_top5").map(|value| format!("top-5 {}", percent(value)));
        tiles.push(("top-1 accuracy".to_owned(), percent(accuracy), top5.unwrap_or_default()));
    }
    if let Some(curve) = run.log.curve("loss") {
        let smooth = curve.smoothed();
        let first = curve.values.iter().copied().find(|value| value.is_finite());
        if let (Some((_, last)), Some(first)) = (smooth.last(), first) {
            tiles.push((
                "total loss, smoothed".to_owned(),
                figure(last),
                format!("{} after the first step", figure(first)),
            ));
        }
    }
    if let Some(rank) = run.evaluation("effective_rank") {
        let of = run.map.as_ref().map_or_else(String::new, |map| format!("of {} dimensions", map.dim));
        tiles.push(("effective rank".to_owned(), figure(rank), of));
    }
    if let Some(rate) = run.log.curve("images_per_second").and_then(|curve| curve.median()) {
        let step = run.log.curve("step_time_ms").and_then(|curve| curve.median());
        let made =
            step.map_or_else(String::new, |ms| format!("{} in steps", duration(ms / 1e3 * run.log.last_step as f64)));
        let left = match (run.status, step, run.total_steps) {
            (Status::Training, Some(ms), Some(total)) => {
                format!(" · {} left", duration(ms / 1e3 * total.saturating_sub(run.log.last_step) as f64))
            }
            _ => String::new(),
        };
        tiles.push(("images a second".to_owned(), figure(rate), made + &left));
    }
    let tile = |(name, value, beside): &(String, String, String)| {
        format!("<div><span>{name}</span><b>{}</b><small>{}</small></div>\n", escape(value), escape(beside))
    };
    format!("<div class=\"tiles\">\n{}</div>\n", tiles.iter().map(tile).collect::<String>())
}

/// `42 s`, `12 min`, `3.4 h`, `2.1 days`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// What stands above the contact sheets.
const NEIGHBOURS: &str = "as last judged: a picture, then those of the bank whose features are nearest; framed green where they are of its \
                          class, red where they are not";
const SEGMENTS: &str =
    "as last judged: a picture as the network takes it in, the classes of its pixels, and what they are taken for";
const PATCHES: &str = "as the run ended: a picture as the network takes it in, the first three principal components of its patches' features \
                       as red, green and blue, and for each head of the last attention how much each patch is looked at, from dark to bright";

/// At most twice as large as it is: few columns are not to fill the page.
fn contact_sheet(sheet: &Picture, note: &str) -> String {
    format!(
        "<p class=\"note\">{note}</p>\n<figure class=\"sheet\"><img src=\"{}\" width=\"{}\" height=\"{}\" \
         style=\"max-width: {}px\" alt=\"{note}\"></figure>\n",
        sheet.uri,
        sheet.width,
        sheet.height,
        2 * sheet.width
    )
}

/// The newest pictures beside small earlier ones.
fn reconstructions(run: &Run) -> String {
    let img = |picture: &Picture| {
        format!(
            "<figure><img src=\"{}\" width=\"{}\" height=\"{}\" alt=\"original, masked, reconstructed after step {}\">\
             <figcaption>{}</figcaption></figure>\n",
            picture.uri,
            picture.width,
            picture.height,
            picture.step,
            epochs(run, picture.step),
        )
    };
    let mut html = "<p class=\"note\">columns: original, masked, reconstructed; a row is a sample</p>\n".to_owned();
    let _ = write!(
        html,
        "<div class=\"pictures\">\n<div class=\"newest\">{}</div>\n<div class=\"earlier\">\n",
        img(&run.pictures[0])
    );
    run.pictures[1..].iter().for_each(|picture| html += &img(picture));
    html += "</div>\n</div>\n";
    let left_out = run.picture_count.saturating_sub(run.pictures.len());
    if left_out > 0 {
        let _ = writeln!(html, "<p class=\"note\">{left_out} more in the run's folder</p>");
    }
    html
}

/// Text, overrides, parameters and settings.
fn pipeline(run: &Run) -> String {
    let mut html = String::new();
    let code = |option: &str, texts: &[String]| -> String {
        texts.iter().map(|text| format!("<li><code>{option} {}</code></li>", escape(&shell::word(text)))).collect()
    };
    if let Some(started) = &run.started {
        let given = code("--set", &started.overrides) + &code("--with", &started.imports);
        if given.is_empty() {
            html += "<p>Run as its text says: no overrides.</p>\n";
        } else {
            let _ = writeln!(html, "<p>Overrides of the command line:</p>\n<ul class=\"overrides\">{given}</ul>");
        }
    }
    if !run.program.spec.params.is_empty() {
        let _ = write!(html, "<h3>Parameters</h3>\n{}", tables::params(run));
    }
    let _ = writeln!(html, "<h3>Text</h3>\n<pre class=\"text\">{}</pre>", pipeline_text(&run.text));
    let settings = ron::ser::to_string_pretty(&run.program.spec, ron::ser::PrettyConfig::default());
    if let Ok(settings) = settings {
        let _ = writeln!(
            html,
            "<details><summary>All settings, after overrides and defaults</summary><pre>{}</pre></details>",
            escape(&settings)
        );
    }
    html
}

/// Reconstructions and maps of several runs, a figure each.
pub fn beside(runs: &Named) -> Vec<Block> {
    let mut blocks = Vec::new();
    let maps: String = runs
        .iter()
        .filter_map(|(name, run)| Some(scatter::html(run.map.as_ref()?, name, &epochs(run, run.map.as_ref()?.step))))
        .collect();
    if !maps.is_empty() {
        blocks.push(Block { title: "Feature maps", html: grid(&maps) });
    }
    let mut pictures = String::new();
    for (name, run) in runs {
        if let Some(newest) = run.pictures.first() {
            let _ = writeln!(
                pictures,
                "<figure><figcaption><b>{}</b> {}</figcaption><img src=\"{}\" width=\"{}\" height=\"{}\" alt=\"original, \
                 masked, reconstructed\"></figure>",
                escape(name),
                epochs(run, newest.step),
                newest.uri,
                newest.width,
                newest.height,
            );
        }
    }
    if !pictures.is_empty() {
        blocks.push(Block { title: "Reconstructions", html: format!("<div class=\"row\">\n{pictures}</div>\n") });
    }
    blocks
}
