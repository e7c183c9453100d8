//! What the environment says of the ranks that a launcher has started.

/// A launcher's word for how many ranks there are, and which this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launched {
    /// Who has started them.
    pub by: &'static str,
    pub rank: usize,
    pub count: usize,
}

/// Variables of rank and count, the nearest to the process first: SLURM's are there too where it has started MPI's launcher.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("OpenMPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE"),
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("SLURM", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
];

impl Launched {
    /// `variable` gives the environment's variables. `None` where nobody has started ranks.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.iter().find_map(|(by, rank, count)| {
            let (rank, count) = (number(rank)?, number(count)?);
            (rank < count).then_some(Launched { by, rank, count })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Launched;

    #[test]
    fn the_nearest_launcher_counts() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            Launched::read(|name| set.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()))
        };
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8")];
        assert_eq!(of(&slurm), Some(Launched { by: "SLURM", rank: 3, count: 8 }));
        let both = [&slurm[..], &[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")]].concat();
        assert_eq!(of(&both), Some(Launched { by: "OpenMPI", rank: 1, count: 2 }));
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "4")]).map(|found| found.by), Some("torchrun"));
        // Half a word is none, nor is a number that cannot be.
        assert_eq!(of(&[("RANK", "0")]), None);
        assert_eq!(of(&[("RANK", "4"), ("WORLD_SIZE", "4")]), None);
        assert_eq!(of(&[("RANK", "x"), ("WORLD_SIZE", "4")]), None);
    }
}
