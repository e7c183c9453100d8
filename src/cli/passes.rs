//! How far a pass over pictures is: an evaluation's, within a run or by a command of its own.
//!
//! **Invariant:** a pass that takes less than half a minute leaves no line.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cmae::eval::Pass;
use cmae::ranks::Ranks;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{self, errln};
use super::signals;

/// Between two lines, where there is no terminal to draw a bar on.
const LINES_EVERY: Duration = Duration::from_secs(30);

/// The speed of a pass.
#[derive(Default)]
pub struct Pace {
    /// What the pass is of, when it began, and when a line last told of it.
    pass: Option<(String, Instant, Instant)>,
}

impl Pace {
    /// What there is to say of a pass; `None` at its end.
    pub fn text(&mut self, pass: &Pass<'_>) -> Option<String> {
        if pass.done >= pass.of {
            self.pass = None;
            return None;
        }
        let now = Instant::now();
        let known = self.pass.take().filter(|(what, ..)| what == pass.what);
        let (_, begun, _) = self.pass.insert(known.unwrap_or_else(|| (pass.what.to_owned(), now, now)));
        Some(text(pass, now.duration_since(*begun).as_secs_f64()))
    }

    /// The same of a list of `files` of a source, of which nobody knows how many there are; `None` at its end.
    pub fn listing(&mut self, source: &str, files: Option<usize>) -> Option<String> {
        let Some(files) = files else {
            self.pass = None;
            return None;
        };
        let now = Instant::now();
        self.pass.get_or_insert_with(|| (source.to_owned(), now, now));
        Some(format!("{source}: {files} files listed"))
    }

    /// Whether it is time for another line.
    pub fn is_due(&mut self) -> bool {
        let Some((_, _, told)) = &mut self.pass else { return false };
        let due = told.elapsed() >= LINES_EVERY;
        if due {
            *told = Instant::now();
        }
        due
    }
}

/// `raw pixels: 1200 of 5000 pictures  850/s  4 seconds left`, after `seconds`.
fn text(pass: &Pass<'_>, seconds: f64) -> String {
    let Pass { what, done, of } = pass;
    let mut text = format!("{what}: {done} of {of} pictures");
    let rate = *done as f64 / seconds;
    // The first batch says how long a program takes to be compiled, too.
    if let Some(left) = Duration::try_from_secs_f64((of - done) as f64 / rate).ok().filter(|_| *done > 0) {
        text += &format!("  {rate:.0}/s  {} left", HumanDuration(left));
    }
    text
}

/// Shows passes of a command, and ends them when it is asked to leave.
pub struct Passes {
    pace: Pace,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    shows: bool,
}

impl Passes {
    /// As one of `ranks`, of which the first alone shows them.
    pub fn watch(ranks: &dyn Ranks) -> Result<Passes, String> {
        let (stop, shows) = (Arc::new(AtomicBool::new(false)), ranks.rank() == 0);
        let told = if shows { "leaving after this batch; once more leaves at once" } else { "" };
        signals::watch(stop.clone(), told)?;
        let bar = match output::is_terminal() && shows {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            false => ProgressBar::hidden(),
        };
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is constant and right"));
        Ok(Passes { pace: Pace::default(), bar, stop, shows })
    }

    pub fn look(&mut self, pass: Pass<'_>) -> ControlFlow<()> {
        match self.pace.text(&pass) {
            Some(text) if self.bar.is_hidden() => {
                if self.pace.is_due() && self.shows {
                    errln!("{text}");
                }
            }
            Some(text) => self.bar.set_message(text),
            None => self.bar.set_message(""),
        }
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Passes {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_says_how_far_it_is_and_how_long_it_takes() {
        let pass = |done| Pass { what: "raw pixels", done, of: 5000 };
        assert_eq!(text(&pass(1200), 2.0), "raw pixels: 1200 of 5000 pictures  600/s  6 seconds left");
        assert_eq!(text(&pass(0), 0.0), "raw pixels: 0 of 5000 pictures");
        let mut pace = Pace::default();
        assert!(pace.text(&pass(64)).is_some() && !pace.is_due());
        assert_eq!((pace.text(&pass(5000)), pace.is_due()), (None, false));
    }
}
