//! `cmaec data pack`: writes a set of pictures as shards that are read fast from any disk.

use std::path::PathBuf;

use cmae::data::pack::{ShardSize, pack};
use cmae::data::source::{describe, written};
use cmae::eval::Pass;
use cmae::ranks::Alone;
use cmae::spec::{Shuffle, SourceSpec};

use super::Place;
use crate::cli::output::{errln, outln};
use crate::cli::passes::Passes;
use crate::cli::pipeline::start_threads;

/// Pictures that are left out and named.
const NAMED: usize = 10;

/// Writes a set of pictures as tar shards in WebDataset's layout, in an order that a seed draws: each file as it is, byte for byte;
/// pictures that are no file (CIFAR, MNIST, arrays of 1 or 3 channels) as PNG.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// The folder of the shards, which is not there yet; it has its name when all of them are whole.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Bytes of a shard at most: 500MB, 1GB.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1GB", conflicts_with = "per_shard")]
    shard_size: u64,
    /// Pictures of a shard, in place of its size.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_shard: Option<u32>,
    /// Draws the order.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Threads that read; by default one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

pub fn main(args: Args) -> Result<(), String> {
    start_threads(args.threads, 1)?;
    let opened = args.place.open()?;
    let source = &*opened.source;
    describe(&args.place.path, source).iter().for_each(|line| errln!("{line}"));
    let size = match args.per_shard {
        Some(pictures) => ShardSize::Pictures(pictures as usize),
        None => ShardSize::Bytes(args.shard_size),
    };
    let mut passes = Passes::watch(&Alone)?;
    let of = source.len();
    let packed = pack(source, &args.output, size, args.seed, &mut |done| passes.look(Pass { what: "pack", done, of }));
    drop(passes);
    let packed = packed.map_err(|error| error.to_string())?;
    source.noticed().iter().for_each(|line| errln!("{}: {line}", args.place.path));
    packed.left_out.iter().take(NAMED).for_each(|(name, reason)| errln!("warning: {name} is left out: {reason}"));
    if let more @ 1.. = packed.left_out.len().saturating_sub(NAMED) {
        errln!("warning: and {more} more are left out: `cmaec data check` names them");
    }
    let shards = if packed.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", packed.shards) };
    let megabytes = packed.bytes as f64 / 1e6;
    outln!("{}: {} pictures in {shards}, {megabytes:.1} MB", args.output.display(), packed.pictures);
    let path = args.output.to_string_lossy().into_owned();
    outln!("train = {}", written(&SourceSpec::TarShards { path, range: None, shuffle: Shuffle::Shards }));
    Ok(())
}

/// `500MB`, `1GB`, `2GiB`, or bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => 0.0,
    };
    // A cast of what no number of bytes is gives one that is refused here.
    match number.parse::<f64>().map(|number| (number * factor) as u64) {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err("it is no size such as 500MB or 1GB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        let read = ["1GB", "1.5MB", "2KiB", "700", "3 MB"].map(bytes);
        assert_eq!(read, [Ok(1_000_000_000), Ok(1_500_000), Ok(2048), Ok(700), Ok(3_000_000)]);
        for wrong in ["", "0", "GB", "1TBx", "-1MB", "1..2MB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
