//! The terminal, where it is ours: taken for the view of a run, and given back on every way out.

#![expect(
    clippy::disallowed_methods,
    reason = "a terminal is drawn on by a library, which gives errors and does not panic"
)]

use std::io::{self, Stderr};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// Whether the terminal is ours; the process has one.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Whether there is a view that messages would be written into.
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::SeqCst)
}

/// Gives the terminal back; does nothing where it is not ours.
pub fn restore() {
    if ACTIVE.swap(false, Ordering::SeqCst) {
        // Nothing can be said where this fails: the terminal is gone.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Makes it ours, until [`restore`].
pub fn take() -> io::Result<Terminal<CrosstermBackend<Stderr>>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
    enable_raw_mode()?;
    ACTIVE.store(true, Ordering::SeqCst);
    execute!(io::stderr(), EnterAlternateScreen, cursor::Hide)?;
    Terminal::new(CrosstermBackend::new(io::stderr()))
}
