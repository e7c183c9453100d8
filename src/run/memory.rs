//! How much memory the process has held at most.

/// Bytes of the largest resident set so far, or `None` where the system does not say: only Linux is asked.
///
/// It never falls, so what a part of the program needs is only seen where nothing before it needed more.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    peak_of(&status)
}

/// `VmHWM:     1234 kB` of the kernel's page, in bytes.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::peak_of;

    #[test]
    fn the_kernels_page_is_read() {
        assert_eq!(peak_of("Name:\tcmaec\nVmPeak:\t  900 kB\nVmHWM:\t    1234 kB\n"), Some(1_263_616));
        assert_eq!(peak_of("Name:\tcmaec\n"), None);
    }
}
