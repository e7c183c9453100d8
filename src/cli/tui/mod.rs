//! `cmaec run --tui`: a view of the run in the terminal, on stderr.
//!
//! Before: the session tells it what happens. After: people. A thread of its own draws and reads keys, ten times a second
//! at most, so that a long step neither freezes the view nor is held up by it.
//!
//! **Invariant:** the terminal is left as it was found, whatever ends the view: the run's end, an error, a panic, a second
//! request to stop. A terminal that goes away ends the view within a second, and is what SIGHUP is: the run saves and
//! leaves, unless that signal is ignored.

mod draw;
mod state;

use std::io::Stderr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cmae::eval::Pass;
use cmae::run::metrics;
use cmae::train::{StepLine, Watch};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use serde_json::Value;

use self::state::State;
use super::output::{self, errln};
use super::passes::Pace;
use super::signals;
use super::speed::Speed;
use super::terminal::{is_active, restore, take};

/// Between two pictures.
const PERIOD: Duration = Duration::from_millis(100);
/// After which the same picture is drawn again, to see whether the terminal is still there: nothing else tells surely.
const ALIVE: Duration = Duration::from_secs(1);

pub struct Tui {
    shared: Arc<Shared>,
    /// Draws; `None` once the view has ended.
    thread: Option<JoinHandle<()>>,
    metrics: PathBuf,
    speed: Speed,
    pace: Pace,
    batch_size: usize,
}

struct Shared {
    state: Mutex<State>,
    /// Something is to be drawn.
    changed: AtomicBool,
    /// The view ends.
    ended: AtomicBool,
    /// The run is asked to save and leave.
    stop: Arc<AtomicBool>,
}

/// Refuses where there is no terminal to draw on.
pub fn check() -> Result<(), String> {
    match output::is_terminal() {
        true => Ok(()),
        false => Err("`--tui` needs a terminal, and stderr is none (help: leave `--tui` out: lines of progress are \
                      written)"
            .to_owned()),
    }
}

impl Tui {
    /// Takes the terminal. `stop` is set when the user or the system asks to leave, `metrics` is the run's file.
    pub fn open(title: &str, metrics: PathBuf, stop: Arc<AtomicBool>) -> Result<Tui, String> {
        let terminal = take().map_err(|error| {
            restore();
            format!("the terminal cannot be drawn on: {error} (help: leave `--tui` out)")
        })?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State { title: title.to_owned(), ..State::default() }),
            changed: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            stop,
        });
        let of_thread = shared.clone();
        let thread = Some(std::thread::spawn(move || show(terminal, &of_thread)));
        Ok(Tui { shared, thread, metrics, speed: Speed::default(), pace: Pace::default(), batch_size: 0 })
    }

    /// Changes the state and has it drawn.
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
        self.shared.changed.store(true, Ordering::Release);
    }
}

impl Watch for Tui {
    fn begin(&mut self, step: u64, total_steps: u64, batch_size: usize) {
        // A file that cannot be read only costs the curves their beginning.
        let past = metrics::read(&self.metrics).unwrap_or_default();
        self.speed.begin(batch_size);
        self.batch_size = batch_size;
        self.update(|state| {
            (state.step, state.total_steps) = (step, total_steps);
            past.iter().for_each(|line| state.past(line));
        });
    }

    fn step(&mut self, line: &StepLine<'_>) {
        self.speed.step(line);
        let seconds = line.seconds;
        let (speed, batch_size) = (self.speed.images_per_second(), self.batch_size);
        self.update(|state| {
            state.step(line);
            if seconds > 0.0 {
                state.speed_was(batch_size as f64 / seconds);
            }
            (state.speed, state.accelerator_idle) = (speed, self.speed.accelerator_idle());
            state.left = self.speed.left(state.total_steps.saturating_sub(line.step));
        });
    }

    fn logged(&mut self, line: &Value) {
        if line.get("evaluation").is_some() {
            self.update(|state| state.judged(line));
        }
    }

    fn listing(&mut self, source: &str, files: Option<usize>) {
        let text = self.pace.listing(source, files);
        self.update(|state| state.pass = text);
    }

    fn pass(&mut self, pass: &Pass<'_>) {
        let text = self.pace.text(pass);
        self.update(|state| state.pass = text);
    }

    fn say(&mut self, line: &str) {
        // After its end, and where the thread died, lines go the usual way.
        if is_active() && self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            self.update(|state| state.say(line));
        } else {
            errln!("{line}");
        }
    }

    fn asked_to_stop(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.ended.store(true, Ordering::Release);
        // A panic of the thread was told by its hook.
        let _ = thread.join();
        restore();
        // What was said stays in the terminal, as without the view.
        self.shared.state().lines.drain(..).for_each(|line| errln!("{line}"));
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// The state is whole also where a thread panicked with it: it is changed field by field.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws and reads keys until the view ends.
fn show(mut terminal: Terminal<CrosstermBackend<Stderr>>, shared: &Shared) {
    let mut drawn: Option<Instant> = None;
    while !shared.ended.load(Ordering::Acquire) && is_active() {
        match event::poll(PERIOD) {
            Ok(true) => match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if interrupt || key.code == KeyCode::Char('q') {
                        ask_to_stop(shared);
                    }
                }
                Ok(Event::Resize(..)) => shared.changed.store(true, Ordering::Release),
                _ => {}
            },
            Ok(false) => {}
            // Without keys there is still something to see.
            Err(_) => std::thread::sleep(PERIOD),
        }
        let stopping = shared.stop.load(Ordering::Relaxed);
        if drawn.is_some_and(|drawn| drawn.elapsed() < PERIOD) {
            continue;
        }
        let mut state = shared.state();
        let changed = shared.changed.swap(false, Ordering::AcqRel) || state.stopping != stopping;
        if !changed && drawn.is_some_and(|drawn| drawn.elapsed() < ALIVE) {
            continue;
        }
        state.stopping = stopping;
        if terminal.draw(|frame| draw::draw(frame, &state)).is_err() {
            if !signals::survives_hangup() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            return;
        }
        drawn = Some(Instant::now());
    }
}

/// As the signal does: the first time the run saves and leaves, the second time it leaves at once.
fn ask_to_stop(shared: &Shared) {
    if shared.stop.swap(true, Ordering::Relaxed) {
        signals::leave(130);
    }
}
