//! `cmaec launch`: starts several ranks of a command on this machine, to try them out, or as one process for each of its accelerators.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cmae::ranks::{Launched, free_port};

use super::output::{errln, outln};
use super::signals;

/// Launchers of MPI, by the names that they go by.
const LAUNCHERS: [&str; 2] = ["mpirun", "mpiexec"];

/// Asks OpenMPI 4 and 5 to start more ranks than there are cores; other launchers do so anyway.
const OVERSUBSCRIBE: [(&str, &str); 2] =
    [("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")];

/// Where ranks of one machine meet.
const HOST: &str = "127.0.0.1";
/// Between two looks at what became of them.
const LOOK: Duration = Duration::from_millis(20);
/// How long the others have to end by themselves, with their own word, once one has died.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts several ranks of a command on this machine: cmaec launch -n 4 -- run PIPELINE.
///
/// By the launcher of MPI where this binary was built with it and it is here, else as processes that meet at a port of this machine. Rank
/// 0 speaks for all; what others say has their number in front. As soon as one dies, all end.
#[derive(clap::Args)]
pub struct Args {
    /// How many ranks.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// Starts them without MPI, though it is here: for ranks that each train on an accelerator, and for evaluations.
    #[arg(long)]
    without_mpi: bool,
    /// What each of them does, such as `run PIPELINE`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn main(args: Args) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    match launcher().filter(|_| cfg!(feature = "mpi") && !args.without_mpi) {
        Some(launcher) => by_mpi(&launcher, &own, &args),
        None => by_ourselves(&own, &args),
    }
}

fn by_mpi(launcher: &PathBuf, own: &PathBuf, args: &Args) -> Result<(), String> {
    let mut command = Command::new(launcher);
    command.args(["-n", &args.ranks.to_string()]).arg(own).args(&args.command).envs(OVERSUBSCRIBE);
    let ended = command.status().map_err(|error| format!("cannot start {}: {error}", launcher.display()))?;
    // What went wrong was told by the ranks.
    if ended.success() { Ok(()) } else { Err(String::new()) }
}

fn launcher() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    LAUNCHERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| file.is_file())
}

/// Ranks that are killed when this is dropped: none outlives the launcher.
struct Ranks(Vec<Rank>);

struct Rank {
    child: Child,
    ended: Option<ExitStatus>,
    /// What passes on what it says.
    passes: Vec<JoinHandle<()>>,
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for rank in self.0.iter_mut().filter(|rank| rank.ended.is_none()) {
            // One that has ended meanwhile is what is wanted.
            drop(rank.child.kill());
            drop(rank.child.wait());
        }
        for passes in self.0.iter_mut().flat_map(|rank| rank.passes.drain(..)) {
            drop(passes.join());
        }
    }
}

fn by_ourselves(own: &PathBuf, args: &Args) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    signals::watch(stop.clone(), "")?;
    let count = usize::from(args.ranks);
    let port = free_port(HOST);
    let mut ranks = Ranks(Vec::with_capacity(count));
    for rank in 0..count {
        let mut command = Command::new(own);
        command.args(&args.command).env("RANK", rank.to_string()).env("WORLD_SIZE", count.to_string());
        command.env("LOCAL_RANK", rank.to_string()).env("LOCAL_WORLD_SIZE", count.to_string());
        command.env("MASTER_ADDR", HOST).env("MASTER_PORT", port.to_string());
        // One run of several on this machine, and nobody's agent.
        command.env("TORCHELASTIC_RUN_ID", format!("launched {}", std::process::id()));
        command.env_remove("TORCHELASTIC_USE_AGENT_STORE");
        Launched::before_torchrun().for_each(|name| {
            command.env_remove(name);
        });
        if rank > 0 {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|error| format!("cannot start rank {rank}: {error}"))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let told = |line: &str| outln!("{line}");
        let complained = |line: &str| errln!("{line}");
        let passes =
            out.map(|out| pass_on(rank, out, told)).into_iter().chain(err.map(|err| pass_on(rank, err, complained)));
        ranks.0.push(Rank { child, ended: None, passes: passes.collect() });
    }
    wait(ranks, &stop)
}

/// Gives each line to `say`, with the rank's number in front.
fn pass_on(rank: usize, from: impl Read + Send + 'static, say: impl Fn(&str) + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            say(&format!("[{rank}] {}", String::from_utf8_lossy(&line).trim_end()));
            line.clear();
        }
    })
}

/// Until all have ended; the first that fails ends the others.
fn wait(mut ranks: Ranks, stop: &AtomicBool) -> Result<(), String> {
    let (mut passed_on, mut failed, count) = (false, None, ranks.0.len());
    loop {
        let mut runs = 0;
        for (number, rank) in ranks.0.iter_mut().enumerate().filter(|(_, rank)| rank.ended.is_none()) {
            match rank.child.try_wait().map_err(|error| format!("rank {number} cannot be waited for: {error}"))? {
                None => runs += 1,
                Some(status) => {
                    rank.ended = Some(status);
                    // With an exit code it has said why.
                    if status.code().is_none() {
                        errln!("rank {number} of {count} has ended: {status}");
                    }
                    if !status.success() {
                        failed = failed.or_else(|| Some(Instant::now()));
                    }
                }
            }
        }
        if runs == 0 {
            return if failed.is_none() { Ok(()) } else { Err(String::new()) };
        }
        if failed.is_some_and(|failed| failed.elapsed() > PATIENCE) {
            // The rest are killed as this is left.
            return Err(String::new());
        }
        if stop.load(Ordering::Relaxed) && !std::mem::replace(&mut passed_on, true) {
            ranks.0.iter().filter(|rank| rank.ended.is_none()).for_each(|rank| signals::pass_on(rank.child.id()));
        }
        thread::sleep(LOOK);
    }
}
