//! What the environment says of the ranks that a launcher has started, and of where they meet.

use super::hosts::first_host;

/// A launcher's word for how many ranks there are, and which this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launched {
    /// Who has started them.
    pub by: &'static str,
    pub rank: usize,
    pub count: usize,
    /// Whether they can find one another by MPI.
    pub by_mpi: bool,
}

/// Variables of rank and count, the nearest to the process first: SLURM's are there too where it has started MPI's launcher.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("OpenMPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE"),
    (TORCHRUN, "RANK", "WORLD_SIZE"),
    (SLURM, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
];

const TORCHRUN: &str = "torchrun";
const SLURM: &str = "SLURM";

impl Launched {
    /// `variable` gives the environment's variables. `None` where nobody has started ranks.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.iter().find_map(|(by, rank, count)| {
            let (rank, count) = (number(rank)?, number(count)?);
            let by_mpi = match *by {
                TORCHRUN => false,
                // Of `srun --mpi=pmix`.
                SLURM => variable("PMIX_RANK").is_some(),
                _ => true,
            };
            (rank < count).then_some(Launched { by, rank, count, by_mpi })
        })
    }

    /// Names of the variables by which launchers that are asked before torchrun's would be taken for who has started a process.
    pub fn before_torchrun() -> impl Iterator<Item = &'static str> {
        LAUNCHERS.iter().take_while(|(by, ..)| *by != TORCHRUN).flat_map(|(_, rank, count)| [*rank, *count])
    }
}

/// Where the ranks of a run find one another without MPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// Of rank 0's machine.
    pub host: String,
    pub port: u16,
    /// What tells one run from another where both meet at one place.
    pub run: String,
}

/// SLURM's ports when none is named, below those that systems hand out: one for a job, as most jobs that share a machine have others.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

impl Meeting {
    /// Where ranks that `by` has started meet: at `MASTER_ADDR` and `MASTER_PORT`, or as SLURM says. `None` where nobody says.
    ///
    /// # Errors
    /// A port that is none.
    pub fn read(by: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Meeting>, String> {
        let variable = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let slurm = |name: &str| if by == SLURM { variable(name) } else { None };
        let port = match variable("MASTER_PORT") {
            None => None,
            Some(text) => match text.parse::<u16>() {
                Ok(port @ 1..) => Some(port),
                _ => return Err(text),
            },
        };
        // torchrun's agent serves a store of its own at the port that it names.
        let agent = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let port = port.map(|port| if agent && by == TORCHRUN { port.saturating_add(1) } else { port });
        let of_job = || {
            let job: u64 = slurm("SLURM_JOB_ID")?.parse().ok()?;
            let ports = u64::from(PORTS.end - PORTS.start);
            Some(PORTS.start + u16::try_from(job % ports).expect("there are fewer ports than numbers of 16 bits"))
        };
        // Rank 0 is on the first of a step's machines; who has started the step may be elsewhere.
        let of_step = || slurm("SLURM_STEP_NODELIST").and_then(|list| first_host(&list));
        let host = variable("MASTER_ADDR").or_else(of_step).or_else(|| slurm("SLURM_LAUNCH_NODE_IPADDR"));
        let (Some(host), Some(port)) = (host, port.or_else(of_job)) else { return Ok(None) };
        let names = ["TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID"];
        let run: Vec<String> = names.iter().map(|name| variable(name).unwrap_or_default()).collect();
        Ok(Some(Meeting { host, port, run: run.join(" ") }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Launched, Meeting};

    fn of<'s>(set: &'s [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 's {
        |name| set.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_nearest_launcher_counts() {
        let read = |set: &[(&str, &str)]| Launched::read(of(set));
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8")];
        let launched = |by, rank, count, by_mpi| Some(Launched { by, rank, count, by_mpi });
        assert_eq!(read(&slurm), launched("SLURM", 3, 8, false));
        assert_eq!(read(&[&slurm[..], &[("PMIX_RANK", "3")]].concat()), launched("SLURM", 3, 8, true));
        let both = [&slurm[..], &[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")]].concat();
        assert_eq!(read(&both), launched("OpenMPI", 1, 2, true));
        assert_eq!(read(&[("RANK", "0"), ("WORLD_SIZE", "4")]), launched("torchrun", 0, 4, false));
        // Half a word is none, nor is a number that cannot be.
        assert_eq!(read(&[("RANK", "0")]), None);
        assert_eq!(read(&[("RANK", "4"), ("WORLD_SIZE", "4")]), None);
        assert_eq!(read(&[("RANK", "x"), ("WORLD_SIZE", "4")]), None);
    }

    #[test]
    fn ranks_meet_where_their_launcher_says() {
        let read = |by: &str, set: &[(&str, &str)]| Meeting::read(by, of(set));
        let at =
            |host: &str, port: u16, run: &str| Ok(Some(Meeting { host: host.to_owned(), port, run: run.to_owned() }));
        let torchrun = [("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500")];
        assert_eq!(read("torchrun", &torchrun), at("node0", 29500, "  "));
        let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RUN_ID", "a")];
        assert_eq!(read("torchrun", &[&torchrun[..], &agent].concat()), at("node0", 29501, "a  "));
        let job = [("SLURM_JOB_ID", "1234567"), ("SLURM_STEP_ID", "0"), ("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1")];
        assert_eq!(read("SLURM", &job), at("10.0.0.1", 24567, " 1234567 0"));
        let listed = [&job[..], &[("SLURM_STEP_NODELIST", "gpu[07-09,12],cpu1")]].concat();
        assert_eq!(read("SLURM", &listed), at("gpu07", 24567, " 1234567 0"));
        // A word of the user's goes before.
        assert_eq!(read("SLURM", &[&listed[..], &torchrun].concat()), at("node0", 29500, " 1234567 0"));
        // SLURM's word is not for those that others have started within its job.
        assert_eq!(read("torchrun", &job), Ok(None));
        assert_eq!(read("torchrun", &torchrun[..1]), Ok(None));
        assert_eq!(read("torchrun", &[("MASTER_ADDR", "a"), ("MASTER_PORT", "0")]), Err("0".to_owned()));
        assert_eq!(read("torchrun", &[("MASTER_ADDR", "a"), ("MASTER_PORT", "99999")]), Err("99999".to_owned()));
    }
}
