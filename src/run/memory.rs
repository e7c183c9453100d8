//! How much memory the process holds, and has held at most; how much the machine has.

/// Bytes of the largest resident set so far, or `None` where the system does not say: only Linux is asked.
///
/// It never falls, so what a part of the program needs is only seen where nothing before it needed more.
pub fn peak_memory() -> Option<u64> {
    field("VmHWM", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Bytes of the resident set as it is now; asked of Linux only, as [`peak_memory`].
pub fn resident_memory() -> Option<u64> {
    field("VmRSS", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Memory of the machine, or of the container that the process runs in where that has less. In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    pub total: u64,
    /// What can be had now without that anything is written to a disk.
    pub available: u64,
}

impl MachineMemory {
    /// The part of one of `sharers` processes that want as much of it.
    pub fn among(self, sharers: usize) -> MachineMemory {
        let sharers = sharers.max(1) as u64;
        MachineMemory { total: self.total / sharers, available: self.available / sharers }
    }
}

/// `None` where the system does not say.
pub fn machine_memory() -> Option<MachineMemory> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let (mut total, mut available) = (system.total_memory(), system.available_memory());
    if let Some(container) = system.cgroup_limits() {
        total = total.min(container.total_memory);
        // What the system keeps of files is the container's too, but it gives way.
        available = available.min(container.total_memory.saturating_sub(container.rss));
    }
    (total > 0).then_some(MachineMemory { total, available })
}

/// `VmHWM:     1234 kB` of the kernel's page, in bytes.
fn field(name: &str, status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn the_kernels_page_is_read() {
        let status = "Name:\tcmaec\nVmPeak:\t  900 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 2 kB\n";
        assert_eq!(field("VmHWM", status), Some(1_263_616));
        assert_eq!(field("VmRSS", status), Some(2048));
        assert_eq!(field("VmHWM", "Name:\tcmaec\n"), None);
    }
}
