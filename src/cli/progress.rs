//! What a run shows on stderr: a bar where there is a terminal, and twenty lines a run that stay.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cmae::run::RunFolder;
use cmae::train::{StepLine, Watch};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::LiveReport;

/// Lines of losses in a whole run.
const LINES: u64 = 20;
/// Steps that the shown speed is taken over.
const SPEED_STEPS: usize = 50;

pub struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    batch_size: usize,
    total_steps: u64,
    /// Ends of the last steps.
    ends: VecDeque<Instant>,
    /// Sums of the losses since the last line, and how many steps.
    sums: Vec<f64>,
    count: u64,
    report: LiveReport,
}

impl Progress {
    /// `stop` is set when the process is asked to leave.
    pub fn new(stop: Arc<AtomicBool>) -> Progress {
        let (ends, sums, report) = (VecDeque::new(), Vec::new(), LiveReport::new());
        Progress { bar: ProgressBar::hidden(), stop, batch_size: 0, total_steps: 0, ends, sums, count: 0, report }
    }

    /// Writes the run's report once more, however it ended.
    pub fn last_report(&mut self, run: &Path) {
        if let Some(line) = self.report.write(run) {
            self.say(&line);
        }
    }

    /// Images a second over the last steps; `None` before the second step.
    fn speed(&self) -> Option<f64> {
        let seconds = self.ends.back()?.duration_since(*self.ends.front()?).as_secs_f64();
        let steps = self.ends.len() - 1;
        (steps > 0 && seconds > 0.0).then(|| (steps * self.batch_size) as f64 / seconds)
    }
}

impl Watch for Progress {
    fn begin(&mut self, step: u64, total_steps: u64, batch_size: usize) {
        (self.batch_size, self.total_steps) = (batch_size, total_steps);
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:24} step {pos}/{len}  {msg}")
                .expect("the template is constant and right");
            self.bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr());
            self.bar.set_style(style);
            self.bar.set_position(step);
        }
        self.ends.push_back(Instant::now());
    }

    fn step(&mut self, line: &StepLine<'_>) {
        self.ends.push_back(Instant::now());
        if self.ends.len() > SPEED_STEPS {
            self.ends.pop_front();
        }
        self.sums.resize(line.losses.len(), 0.0);
        self.sums.iter_mut().zip(line.losses).for_each(|(sum, (_, value))| *sum += value);
        self.count += 1;
        let speed = self.speed();
        let rate = speed.map_or_else(String::new, |speed| format!("  {speed:.0} images/s"));
        let losses: Vec<String> = line.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let left = (self.total_steps - line.step) as f64 * self.batch_size as f64;
        let eta = speed.map_or_else(String::new, |speed| {
            format!("  {} left", HumanDuration(Duration::from_secs_f64(left / speed)))
        });
        self.bar.set_position(line.step);
        self.bar.set_message(format!("{}{rate}{eta}", losses.join("  ")));
        let part = |step: u64| step * LINES / self.total_steps.max(1);
        if part(line.step) > part(line.step - 1) || line.step == self.total_steps {
            let names = line.losses.iter().map(|(name, _)| name);
            let means: Vec<String> =
                names.zip(&self.sums).map(|(name, sum)| format!("{name} {:.4}", sum / self.count as f64)).collect();
            self.say(&format!(
                "epoch {:6.2}  step {}/{}  {}  lr {:.2e}{rate}",
                line.epoch,
                line.step,
                self.total_steps,
                means.join("  "),
                line.learning_rate,
            ));
            self.sums.fill(0.0);
            self.count = 0;
        }
    }

    fn say(&mut self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    fn kept(&mut self, folder: &RunFolder) {
        if let Some(line) = self.report.update(folder.path()) {
            self.say(&line);
        }
    }
}
