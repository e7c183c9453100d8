//! What a run shows on stderr: a bar where there is a terminal, and twenty lines a run that stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cmae::eval::Pass;
use cmae::train::{StepLine, Watch};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{self, errln};
use super::passes::Pace;
use super::speed::{Speed, rounded};

/// Lines of losses in a whole run.
const LINES: u64 = 20;

pub struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    total_steps: u64,
    speed: Speed,
    pace: Pace,
    /// Sums of the losses since the last line, and how many steps.
    sums: Vec<f64>,
    count: u64,
}

impl Progress {
    /// `stop` is set when the process is asked to leave.
    pub fn new(stop: Arc<AtomicBool>) -> Progress {
        let (speed, pace, sums) = (Speed::default(), Pace::default(), Vec::new());
        Progress { bar: ProgressBar::hidden(), stop, total_steps: 0, speed, pace, sums, count: 0 }
    }
}

impl Watch for Progress {
    fn listing(&mut self, source: &str, files: Option<usize>) {
        if output::is_terminal() && self.bar.is_hidden() {
            self.bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            self.bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is constant and right"));
        }
        let text = self.pace.listing(source, files).unwrap_or_default();
        if self.bar.is_hidden() && self.pace.is_due() {
            errln!("{text}");
        }
        self.bar.set_message(text);
    }

    fn begin(&mut self, step: u64, total_steps: u64, batch_size: usize) {
        self.total_steps = total_steps;
        self.bar.finish_and_clear();
        if output::is_terminal() {
            let style = ProgressStyle::with_template("{bar:24} step {pos}/{len}  {msg}")
                .expect("the template is constant and right");
            self.bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr());
            self.bar.set_style(style);
            self.bar.set_position(step);
        }
        self.speed.begin(batch_size);
    }

    fn step(&mut self, line: &StepLine<'_>) {
        self.speed.step(line);
        self.sums.resize(line.losses.len(), 0.0);
        self.sums.iter_mut().zip(line.losses).for_each(|(sum, (_, value))| *sum += value);
        self.count += 1;
        let speed = self.speed.images_per_second();
        let mut rate = speed.map_or_else(String::new, |speed| format!("  {} images/s", rounded(speed)));
        if let Some(idle) = self.speed.accelerator_idle() {
            rate += &format!("  accelerator idle {:.0} %", 100.0 * idle);
        }
        let losses: Vec<String> = line.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let left = self.speed.left(self.total_steps - line.step);
        let eta = left.map_or_else(String::new, |left| format!("  {} left", HumanDuration(left)));
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

    fn pass(&mut self, pass: &Pass<'_>) {
        let text = self.pace.text(pass).unwrap_or_default();
        if self.bar.is_hidden() && self.pace.is_due() {
            errln!("{text}");
        }
        self.bar.set_message(text);
    }

    fn say(&mut self, line: &str) {
        self.bar.suspend(|| errln!("{line}"));
    }

    fn asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
