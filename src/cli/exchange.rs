//! `cmaec show cost --ranks N`: what ranks send one another in a step, and how long that takes by the speed of their links.
//!
//! By arithmetic from the graphs that the ranks run. A ring sends (N − 1) / N of what is gathered, and twice that share of what is
//! summed, from each rank: the least that any way of doing it sends. The time to set an exchange going is left out, and so is what is
//! sent while a step computes.
//!
//! Source: Thakur et al. 2005, "Optimization of Collective Communication Operations in MPICH", section 4.

use cmae::graph::Program;
use cmae::plan::{Exchanged, Traffic};
use cmae::spec::{Precision, ShardOptimizer};
use cmae::train::fit::bytes_text;
use serde_json::json;

use super::cost::time_text;
use super::output::outln;

/// Links by their names, with what they carry in one direction at most, in bytes a second.
const LINKS: [(&str, f64); 5] = [
    ("1 Gbit/s Ethernet", 0.125e9),
    ("10 Gbit/s Ethernet", 1.25e9),
    ("100 Gbit/s Ethernet or InfiniBand", 12.5e9),
    ("400 Gbit/s InfiniBand NDR", 50e9),
    ("NVLink 4, a GPU in its node", 450e9),
];

/// Prints it for `program` on so many ranks.
pub fn show(program: &Program, ranks: usize, as_json: bool) -> Result<(), String> {
    let sharded = program.spec.train.shard_optimizer == ShardOptimizer::Always;
    let program = Program { ranks, sharded, ..program.clone() };
    let traffic = Traffic::of_step(&program).map_err(|error| error.to_string())?;
    let float_bytes = if program.spec.train.precision == Precision::F64 { 8 } else { 4 };
    let share = (ranks - 1) as f64 / ranks as f64;
    let sent = |exchanged: &Exchanged, times: f64| exchanged.bytes(float_bytes) as f64 * share * times;
    let (gathered, summed) = (sent(&traffic.gathered, 1.0), sent(&traffic.summed, 2.0));
    if as_json {
        let of = |exchanged: &Exchanged, sent: f64| json!({ "times": exchanged.times, "bytes": exchanged.bytes(float_bytes), "sent_bytes": sent });
        let links = LINKS.map(|(name, speed)| json!({ "link": name, "seconds": (gathered + summed) / speed }));
        outln!(
            "{}",
            json!({
                "pipeline": program.spec.name,
                "ranks": ranks,
                "batch_size": program.spec.data.batch_size,
                "gathered": of(&traffic.gathered, gathered),
                "summed": of(&traffic.summed, summed),
                "links": links,
            })
        );
        return Ok(());
    }
    outln!("{}: a step for batches of {}", program.spec.name, program.batch_text());
    for (what, exchanged, sent) in [("gathered", &traffic.gathered, gathered), ("summed", &traffic.summed, summed)] {
        outln!(
            "{what:<10}{} times, {} in all; each rank sends {}",
            exchanged.times,
            amount(exchanged.bytes(float_bytes)),
            amount(sent as u64)
        );
    }
    outln!();
    outln!("{:<36} {:>10} {:>10} {:>10}", "link of each rank", "gathered", "summed", "together");
    for (name, speed) in LINKS {
        let [first, second, both] = [gathered, summed, gathered + summed].map(|bytes| time_text(bytes / speed));
        outln!("{name:<36} {first:>10} {second:>10} {both:>10}");
    }
    Ok(())
}

/// Small ones too: a loss of each sample is a few kilobytes.
fn amount(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => bytes_text(bytes),
    }
}
