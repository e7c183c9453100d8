//! `cmaec launch`: starts several ranks of a command on this machine, to try them out.

use std::path::PathBuf;
use std::process::Command;

/// Launchers of MPI, by the names that they go by.
const LAUNCHERS: [&str; 2] = ["mpirun", "mpiexec"];

/// Asks OpenMPI 4 and 5 to start more ranks than there are cores; other launchers do so anyway.
const OVERSUBSCRIBE: [(&str, &str); 2] =
    [("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")];

/// Starts several ranks of a command on this machine, by the launcher of MPI that is here: cmaec launch -n 4 -- run PIPELINE.
#[derive(clap::Args)]
pub struct Args {
    /// How many ranks.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// What each of them does, such as `run PIPELINE`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn main(args: Args) -> Result<(), String> {
    if !cfg!(feature = "mpi") {
        return Err("this binary has no engine for ranks\nhelp: cargo build --release --features mpi".to_owned());
    }
    let Some(launcher) = launcher() else {
        return Err(format!(
            "no launcher of MPI is on the PATH: {} was looked for\nhelp: apt install openmpi-bin, or load the cluster's module",
            LAUNCHERS.join(" and ")
        ));
    };
    let own = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut command = Command::new(&launcher);
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
