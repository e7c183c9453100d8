//! `cmaec data`: sets of pictures, looked into and packed before anything is trained on them.

mod check;
mod pack;

use std::sync::Arc;

use clap::Subcommand;
use cmae::data::source::{self, Source};
use cmae::spec::{MAX_PIXELS, SourceSpec};

use super::pipeline::in_words;

/// Looks into sets of pictures and packs them into shards.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Check(check::Args),
    Pack(pack::Args),
}

pub fn main(args: Args) -> Result<(), String> {
    match args.what {
        What::Check(args) => check::main(args),
        What::Pack(args) => pack::main(args),
    }
}

/// Where pictures lie, and how they are read.
#[derive(clap::Args)]
struct Place {
    /// A folder of pictures, of `.npy` arrays, of `.tar` or `.parquet` files, CIFAR's or MNIST's; or such a file, or a range of them in braces.
    #[arg(value_name = "PATH")]
    path: String,
    /// Channels that pictures are brought to, as `data.channels`: by default 1 of MNIST and its kind, 3 of others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    channels: Option<u16>,
    /// Values that become black and white, of pictures of 16 bits and of arrays: 0..4095.
    #[arg(long, value_name = "LOW..HIGH", value_parser = range)]
    range: Option<(f64, f64)>,
    /// Pixels past which a picture is broken, as `data.max_pixels`.
    #[arg(long, value_name = "N", default_value_t = MAX_PIXELS)]
    max_pixels: usize,
}

/// A source that a command reads.
struct Opened {
    spec: SourceSpec,
    channels: usize,
    source: Arc<dyn Source>,
}

impl Place {
    fn open(&self) -> Result<Opened, String> {
        let mut spec = source::recognise(&self.path).map_err(|error| in_words(&error))?;
        if let Some(range) = self.range {
            set_range(&mut spec, range)?;
        }
        let usual = if matches!(spec, SourceSpec::Idx { .. }) { 1 } else { 3 };
        let channels = self.channels.map_or(usual, usize::from);
        let source = source::open(&spec, channels, self.max_pixels).map_err(|error| in_words(&error))?;
        Ok(Opened { spec, channels, source })
    }
}

/// Two numbers, the second above the first.
fn range(text: &str) -> Result<(f64, f64), String> {
    let ends = text.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    ends.filter(|(low, high): &(f64, f64)| low < high && (high - low).is_finite())
        .ok_or_else(|| "it is no range of two numbers, the second above the first, such as 0..4095".to_owned())
}

fn set_range(spec: &mut SourceSpec, (low, high): (f64, f64)) -> Result<(), String> {
    let name = source::written(spec);
    match spec {
        SourceSpec::Npy { range, .. } => *range = Some((low, high)),
        SourceSpec::ImageFolder { range, .. }
        | SourceSpec::Parquet { range, .. }
        | SourceSpec::TarShards { range, .. } => {
            let is_level = |value: f64| (0.0..=65535.0).contains(&value) && value.fract() == 0.0;
            if !is_level(low) || !is_level(high) {
                return Err(format!(
                    "{low}..{high} are no values of 16 bits\nhelp: --range 0..4095 for pictures of 12 bits"
                ));
            }
            *range = Some((low as u16, high as u16));
        }
        SourceSpec::Cifar { .. } | SourceSpec::Digits { .. } | SourceSpec::Idx { .. } | SourceSpec::Shapes(_) => {
            return Err(format!("pictures of {name} have 8 bits\nhelp: leave out --range"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_range_is_two_numbers_in_order() {
        assert_eq!(range("0..4095"), Ok((0.0, 4095.0)));
        assert_eq!(range("-0.5..1.5"), Ok((-0.5, 1.5)));
        for wrong in ["4095", "1..0", "0..0", "0..", "a..b", "0..inf", "nan..1"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
