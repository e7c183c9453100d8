//! What asks a run from outside to save and leave: SIGINT (Ctrl-C), SIGTERM, and SIGHUP, a terminal that is gone.
//!
//! **Invariant:** a signal that was ignored when the program started stays ignored, as `nohup` and the shell's background
//! jobs want it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::output::errln;
use super::terminal;

/// Sets `stop` when the process is asked to leave, and says `told`, if it is anything; Ctrl-C, or SIGTERM, once more leaves at once.
#[cfg(unix)]
pub fn watch(stop: Arc<AtomicBool>, told: &'static str) -> Result<(), String> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(heeded).map_err(|error| format!("signals cannot be caught: {error}"))?;
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        for signal in &mut signals {
            let first = !stop.swap(true, Ordering::Relaxed);
            // Whoever closes a terminal or shuts a machine down sends several: only the same again is a person who will not
            // wait. A hangup comes twice from one cause, from the kernel and from the shell.
            if signal != SIGHUP && seen.contains(&signal) {
                leave(128 + signal);
            }
            seen.push(signal);
            if first {
                tell(told);
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
pub fn watch(stop: Arc<AtomicBool>, told: &'static str) -> Result<(), String> {
    let heeded = ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            leave(130);
        }
        tell(told);
    });
    heeded.map_err(|error| format!("signals cannot be caught: {error}"))
}

/// Asks a process that this one has started to save and leave.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the standard library sends no signal but the one that kills")]
pub fn pass_on(process: u32) {
    if let Ok(process @ 1..) = libc::pid_t::try_from(process) {
        // SAFETY: it is a number of a process, and no memory is read or written.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
}

/// Others than Unix pass Ctrl-C on by themselves.
#[cfg(not(unix))]
pub fn pass_on(_: u32) {}

/// Leaves without waiting for the step to end.
pub fn leave(code: i32) -> ! {
    terminal::restore();
    std::process::exit(code);
}

fn tell(told: &str) {
    // The terminal's view says it itself.
    if !terminal::is_active() && !told.is_empty() {
        errln!("{told}");
    }
}

/// Whether a terminal that goes away is to be survived: SIGHUP is ignored, as under `nohup`.
#[cfg(unix)]
pub fn survives_hangup() -> bool {
    is_ignored(signal_hook::consts::SIGHUP)
}

#[cfg(not(unix))]
pub fn survives_hangup() -> bool {
    false
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "no library asks how a signal is handled without changing it")]
fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action the call only writes the old one, to memory that is ours and large enough; it is plain data,
    // for which zeros are valid where the call fails and writes nothing.
    let (failed, now) = unsafe { (libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()), now.assume_init()) };
    failed == 0 && now.sa_sigaction == libc::SIG_IGN
}
