//! `cmaec data check`: reads every picture of a set and says what is there, what is broken, and what to write into a pipeline.

use cmae::data::evaluation::some_of;
use cmae::data::source::{counts, written};
use cmae::data::survey::{Survey, survey};
use cmae::eval::Pass;
use cmae::ranks::Alone;
use cmae::spec::Limit;
use serde_json::{Map, Value, json};

use super::{Opened, Place};
use crate::cli::output::{errln, outln};
use crate::cli::passes::Passes;
use crate::cli::pipeline::start_threads;

/// Broken pictures that are named on a terminal, and classes.
const NAMED: usize = 10;
/// Of many classes, so many of those with most and with fewest pictures.
const ENDS: usize = 3;

/// Reads every picture of a set: counts, sizes, classes, what is broken, and the lines to write. Fails where a picture is broken.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Reads so many of the pictures, a count or a share (`10%`), always the same ones.
    #[arg(long, value_name = "N|P%")]
    sample: Option<Limit>,
    /// Threads that read; by default one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Prints what was found as JSON, every broken picture and class by name.
    #[arg(long)]
    json: bool,
}

pub fn main(args: Args) -> Result<(), String> {
    start_threads(args.threads, 1)?;
    let opened = args.place.open()?;
    let source = &*opened.source;
    let taken = some_of(source.len(), args.sample.map_or(source.len(), |limit| limit.of(source.len())), "data check");
    let mut passes = Passes::watch(&Alone)?;
    let of = taken.len();
    let found = survey(source, &taken, &mut |done| passes.look(Pass { what: "check", done, of }));
    drop(passes);
    let found = found.map_err(|_| "left before all were read".to_owned())?;
    if args.json {
        outln!("{}", json(&args.place.path, &opened, &found));
    } else {
        print(&args.place.path, &opened, &found);
    }
    match found.broken.len() {
        0 => Ok(()),
        // The document says it.
        _ if args.json => Err(String::new()),
        broken => Err(format!("{broken} of {of} pictures are broken")),
    }
}

/// `mean: [0.485, …], std: [0.229, …]`; a channel of one value is left as it is.
fn normalize(found: &Survey) -> Option<String> {
    let statistics = found.statistics();
    let list = |values: Vec<f64>| {
        let shown: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
        format!("[{}]", shown.join(", "))
    };
    let mean = list(statistics.iter().map(|(mean, _)| *mean).collect());
    // A deviation that is written as 0 would be refused.
    let std = list(statistics.iter().map(|(_, std)| if *std < 5e-5 { 1.0 } else { *std }).collect());
    (!statistics.is_empty()).then(|| format!("normalize(mean: {mean}, std: {std})"))
}

fn json(path: &str, opened: &Opened, found: &Survey) -> Value {
    let source = &*opened.source;
    let sides = |figures: Option<[usize; 3]>| {
        figures.map(|[min, median, max]| json!({ "min": min, "median": median, "max": max }))
    };
    let classes: Vec<Value> = (source.classes().iter().zip(counts(source)))
        .map(|(name, pictures)| json!({ "name": name, "pictures": pictures }))
        .collect();
    let broken: Vec<Value> =
        found.broken.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect();
    let formats: Map<String, Value> =
        found.formats.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
    let (mean, std): (Vec<f64>, Vec<f64>) = found.statistics().into_iter().unzip();
    json!({
        "path": path,
        "source": written(&opened.spec),
        "pictures": source.len(),
        "tried": found.read + found.broken.len(),
        "read": found.read,
        "broken": broken,
        "formats": formats,
        "height": sides(found.heights.figures()),
        "width": sides(found.widths.figures()),
        "channels": opened.channels,
        "gray": found.gray,
        "classes": classes,
        "mean": mean,
        "std": std,
        "normalize": normalize(found),
        "passed_over": source.passed(),
        "noticed": source.noticed(),
    })
}

fn print(path: &str, opened: &Opened, found: &Survey) {
    let source = &*opened.source;
    let of = found.read + found.broken.len();
    let line = |name: &str, text: String| outln!("  {name:<10}{text}");
    outln!("{path}: {}", plural(source.len(), "picture"));
    source.passed().iter().for_each(|passed| outln!("  {passed}"));
    let sampled = if of < source.len() { format!(", of {} in all", source.len()) } else { String::new() };
    line("read", format!("{} of {of}, {} broken{sampled}", found.read, found.broken.len()));
    let formats: Vec<String> = found.formats.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if !formats.is_empty() {
        line("formats", formats.join(", "));
    }
    for (name, sides) in [("height", &found.heights), ("width", &found.widths)] {
        if let Some([least, median, most]) = sides.figures() {
            line(name, format!("{least} to {most}, median {median}"));
        }
    }
    let gray = if found.gray > 0 {
        format!("; {} gray", plural(found.gray, "picture is|pictures are"))
    } else {
        String::new()
    };
    line("channels", format!("{}{gray}", opened.channels));
    classes(source.classes(), &counts(source)).into_iter().for_each(|text| line("classes", text));
    source.noticed().iter().for_each(|noticed| outln!("  {noticed}"));
    if !found.broken.is_empty() {
        outln!("broken");
        found.broken.iter().take(NAMED).for_each(|(name, reason)| outln!("  {name}: {reason}"));
        if let more @ 1.. = found.broken.len().saturating_sub(NAMED) {
            outln!("  and {more} more: --json names them all");
        }
    }
    outln!("to write");
    let channels = if opened.channels == 3 { String::new() } else { format!("  channels = {}", opened.channels) };
    outln!("  data {{ train = {}{channels} }}", written(&opened.spec));
    match normalize(found) {
        Some(normalize) => outln!("  {normalize}"),
        None => errln!("no picture was read, so that there is no mean"),
    }
}

/// `1 picture`, `2 pictures`; of `is|are` the one that fits.
fn plural(count: usize, noun: &str) -> String {
    match (noun.split_once('|'), count) {
        (Some((one, _)), 1) => format!("1 {one}"),
        (Some((_, many)), n) => format!("{n} {many}"),
        (None, 1) => format!("1 {noun}"),
        (None, n) => format!("{n} {noun}s"),
    }
}

/// Lines on the classes: all of them where they are few, else those with most and with fewest pictures.
fn classes(names: &[String], counts: &[usize]) -> Vec<String> {
    let mut sorted: Vec<(usize, &String)> = counts.iter().copied().zip(names).collect();
    let shown = |some: &[(usize, &String)]| -> String {
        some.iter().map(|(count, name)| format!("`{name}` {count}")).collect::<Vec<_>>().join(", ")
    };
    if names.len() <= NAMED {
        return vec![if names.is_empty() { "none".to_owned() } else { shown(&sorted) }];
    }
    sorted.sort();
    let (least, most) = (sorted[0].0, sorted[sorted.len() - 1].0);
    let fewest = shown(&sorted[..ENDS]);
    sorted.reverse();
    vec![
        format!("{} of {least} to {most} pictures", names.len()),
        format!("fewest {fewest}"),
        format!("most {}", shown(&sorted[..ENDS])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_classes_are_told_by_those_at_the_ends() {
        let names: Vec<String> = (0..12).map(|class| format!("c{class:02}")).collect();
        let counts: Vec<usize> = (0..12).map(|class| 10 * class + 5).collect();
        let lines = classes(&names, &counts);
        assert_eq!(lines[0], "12 of 5 to 115 pictures");
        assert_eq!(lines[1..], ["fewest `c00` 5, `c01` 15, `c02` 25", "most `c11` 115, `c10` 105, `c09` 95"]);
        assert_eq!(classes(&names[..2], &counts[..2]), ["`c00` 5, `c01` 15"]);
        assert_eq!(classes(&[], &[]), ["none"]);
    }
}
