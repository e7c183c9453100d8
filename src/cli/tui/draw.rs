//! Draws the state on a screen of any size.
//!
//! ```text
//! quickstart                                    epoch 12.00, step 252 of 630
//! ┌ reconstruction 0.6817 ───────────┐┌ contrastive 2.3869 ───────────────┐
//! ┌ learning rate 1.1e-3 ┐┌ images/s 398 ─────────┐┌ kNN 74.6 % ──────────┐
//! what was said
//! ━━━━━━━━━━━━━━━━ 40 %, 1 minute left              q saves and leaves
//! ```

use indicatif::HumanDuration;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, RenderDirection, Sparkline};

use super::super::speed::rounded;
use super::state::{Curve, State};

/// Columns that a curve needs to be one.
const CHART_WIDTH: u16 = 32;
const COLOURS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::LightBlue, Color::LightRed];

pub fn draw(frame: &mut Frame<'_>, state: &State) {
    let said = (frame.area().height / 5).clamp(2, 8);
    let rows = [
        Constraint::Length(1),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(said),
        Constraint::Length(1),
    ];
    let [title, losses, others, lines, bottom] = Layout::vertical(rows).areas(frame.area());
    header(frame, state, title);
    draw_losses(frame, state, losses);
    draw_others(frame, state, others);
    let from = state.lines.len().saturating_sub(usize::from(lines.height));
    let last: Vec<Line<'_>> = state.lines.iter().skip(from).map(|line| Line::from(line.as_str())).collect();
    frame.render_widget(Paragraph::new(last), lines);
    footer(frame, state, bottom);
}

fn header(frame: &mut Frame<'_>, state: &State, area: Rect) {
    frame.render_widget(Line::from(state.title.as_str()).bold(), area);
    if state.total_steps > 0 {
        let place = format!("epoch {:.2}, step {} of {}", state.epoch, state.step, state.total_steps);
        frame.render_widget(Line::from(place).alignment(Alignment::Right), area);
    }
}

/// A chart each, for losses differ in scale; as many beside each other as the screen is wide.
fn draw_losses(frame: &mut Frame<'_>, state: &State, area: Rect) {
    if state.losses.is_empty() {
        let empty = Block::bordered().title(" losses ");
        return frame.render_widget(empty, area);
    }
    let columns = usize::from((area.width / CHART_WIDTH).max(1)).min(state.losses.len());
    let rows = Layout::vertical(vec![Constraint::Fill(1); state.losses.len().div_ceil(columns)]).split(area);
    for (row, losses) in state.losses.chunks(columns).enumerate() {
        let cells = Layout::horizontal(vec![Constraint::Fill(1); losses.len()]).split(rows[row]);
        for (column, (name, curve)) in losses.iter().enumerate() {
            let value = curve.last().map_or_else(String::new, |value| format!("{value:.4}"));
            let colour = COLOURS[(row * columns + column) % COLOURS.len()];
            chart(frame, cells[column], &format!(" {name} {value} "), curve, colour, &[], number);
        }
    }
}

fn draw_others(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let judged = !state.accuracy.points.is_empty();
    let cells = Layout::horizontal(vec![Constraint::Fill(1); if judged { 3 } else { 2 }]).split(area);
    let rate = state.learning_rate.last().map_or_else(String::new, |rate| format!("{rate:.2e} "));
    chart(frame, cells[0], &format!(" learning rate {rate}"), &state.learning_rate, Color::Blue, &[], number);
    let mut speed = state.speed.map_or_else(String::new, |speed| format!("{} ", rounded(speed)));
    if let Some(idle) = state.accelerator_idle {
        speed += &format!("idle {:.0} % ", 100.0 * idle);
    }
    let newest_first: Vec<u64> = state.speeds.iter().rev().copied().collect();
    let bars = Sparkline::default()
        .block(Block::bordered().title(format!(" images/s {speed}")))
        .direction(RenderDirection::RightToLeft)
        .style(Style::new().fg(Color::Green))
        .data(newest_first);
    frame.render_widget(bars, cells[1]);
    if let (true, Some(accuracy)) = (judged, state.accuracy.last()) {
        let against: Vec<String> =
            state.baselines.iter().map(|(name, share)| format!("{name} {}", percent(*share))).collect();
        let others: String = state.others.iter().map(|(name, share)| format!("{name} {} ", percent(*share))).collect();
        let against = if against.is_empty() { String::new() } else { format!("({}) ", against.join(", ")) };
        let title = format!(" {} {} {against}{others}", state.judged_by, percent(accuracy));
        chart(frame, cells[2], &title, &state.accuracy, Color::White, &state.baselines, percent);
    }
}

/// A curve over the steps, with level lines at `levels`.
fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    curve: &Curve,
    colour: Color,
    levels: &[(&str, f64)],
    label: fn(f64) -> String,
) {
    let block = Block::bordered().title(title.to_owned());
    let (Some(first), Some(last)) = (curve.points.first(), curve.points.last()) else {
        return frame.render_widget(block, area);
    };
    let x = [first.0, if last.0 > first.0 { last.0 } else { first.0 + 1.0 }];
    let values = || curve.points.iter().map(|(_, y)| *y).chain(levels.iter().map(|(_, level)| *level));
    let y = bounds(values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let flat: Vec<[(f64, f64); 2]> = levels.iter().map(|(_, level)| [(x[0], *level), (x[1], *level)]).collect();
    let line = |points, colour| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(points)
    };
    let levels = flat.iter().map(|points| line(&points[..], Color::DarkGray));
    let datasets: Vec<Dataset<'_>> = levels.chain([line(&curve.points, colour)]).collect();
    let axis = Axis::default().style(Style::new().fg(Color::DarkGray));
    let chart = Chart::new(datasets)
        .block(block)
        .x_axis(axis.clone().bounds(x).labels([format!("{:.0}", x[0]), format!("{:.0}", x[1])]))
        .y_axis(axis.bounds(y).labels(y.map(label)));
    frame.render_widget(chart, area);
}

/// Bounds with some room, so that a flat curve is no border; what is never below zero gets none below it.
fn bounds(min: f64, max: f64) -> [f64; 2] {
    let room = if max > min { (max - min) * 0.05 } else { max.abs().max(1e-9) * 0.1 };
    [if min >= 0.0 { (min - room).max(0.0) } else { min - room }, max + room]
}

fn footer(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let help = if state.stopping { "saving after this step; q leaves at once" } else { "q saves and leaves" };
    let widths = [Constraint::Fill(1), Constraint::Length(help.len() as u16 + 1)];
    let [bar, keys] = Layout::horizontal(widths).areas(area);
    let share = state.step as f64 / state.total_steps.max(1) as f64;
    let left = state.left.map_or_else(String::new, |left| format!(", {} left", HumanDuration(left)));
    let gauge = Gauge::default()
        .ratio(share.clamp(0.0, 1.0))
        .label(state.pass.clone().unwrap_or_else(|| format!("{:.0} %{left}", share * 100.0)))
        .gauge_style(Style::new().fg(Color::Blue));
    frame.render_widget(gauge, bar);
    frame.render_widget(Line::from(help).alignment(Alignment::Right), keys);
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (0.01..1e4).contains(&size) => format!("{value:.2}"),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cmae::train::StepLine;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::{State, draw};

    /// What a screen of `width` × `height` shows, a line a row.
    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test's screen cannot fail");
        terminal.draw(|frame| draw(frame, state)).expect("a test's screen cannot fail");
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    fn half_way() -> State {
        let mut state = State { title: "quickstart".to_owned(), total_steps: 100, ..State::default() };
        for step in 1..=25u64 {
            let losses = json!({ "reconstruction": 1.0 / step as f64, "contrastive": 4.0 - step as f64 / 25.0 });
            state.past(&json!({ "step": step, "epoch": 0.5, "learning_rate": 1e-3, "losses": losses }));
        }
        for step in 26..=50u64 {
            let losses = [("reconstruction", 1.0 / step as f64), ("contrastive", 4.0 - step as f64 / 25.0)];
            state.step(&StepLine {
                step,
                epoch: step as f64 / 10.0,
                learning_rate: 1e-3,
                seconds: 0.02,
                accelerator_idle: None,
                losses: &losses,
            });
            state.speed_was(300.0 + step as f64);
        }
        for (step, accuracy) in [(20, 0.5), (40, 0.75)] {
            let evaluation = json!({ "knn_accuracy": accuracy, "knn_accuracy_untrained": 0.25 });
            state.past(&json!({ "step": step, "evaluation": evaluation }));
        }
        (state.speed, state.left) = (Some(325.0), Some(Duration::from_secs(90)));
        state.say("online.mask: 8 of 16 patches visible\nafter 4 epochs: kNN accuracy 75.0 %");
        state
    }

    #[test]
    fn a_small_screen_with_known_figures() {
        let shown = screen(&half_way(), 80, 20);
        assert_eq!(shown, SCREEN, "found:\n{shown}");
    }

    #[test]
    fn an_evaluation_says_how_far_it_is() {
        let mut state = half_way();
        state.pass = Some("raw pixels: 3 of 4 pictures".to_owned());
        let shown = screen(&state, 80, 20);
        assert!(shown.trim_end().ends_with("q saves and leaves") && shown.contains("raw pixels: 3 of 4"), "{shown}");
    }

    #[test]
    fn an_accelerator_that_waits_is_shown() {
        let state = State { accelerator_idle: Some(0.13), ..half_way() };
        let shown = screen(&state, 80, 20);
        assert!(shown.contains("┌ images/s 325 idle 13 % ┐"), "{shown}");
    }

    #[test]
    fn every_size_and_an_empty_state_can_be_drawn() {
        let mut many = half_way();
        (0..9).for_each(|i| many.past(&json!({ "step": 60, "losses": { format!("loss_{i}"): -1e9 } })));
        many.stopping = true;
        for state in [State::default(), half_way(), many] {
            for (width, height) in [(1, 1), (3, 2), (20, 5), (33, 7), (200, 60)] {
                screen(&state, width, height);
            }
        }
    }

    const SCREEN: &str = "\
quickstart                                            epoch 5.00, step 50 of 100
┌ reconstruction 0.0200 ───────────────┐┌ contrastive 2.0000 ──────────────────┐
│1.05│⡆                                ││4.06│⠒⠒⠤⠤⢄⣀⣀⡀                         │
│    │⢱                                ││    │       ⠈⠉⠑⠒⠒⠤⠤⣀⣀⡀                │
│    │⠈⠢⡀                              ││    │                ⠈⠉⠉⠒⠒⠤⠤⠤⣀⣀       │
│0.00│  ⠈⠑⠒⠒⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⢄⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀││1.90│                          ⠉⠉⠑⠒⠒⠤⠤│
│    └─────────────────────────────────││    └─────────────────────────────────│
│    1                               50││    1                               50│
└──────────────────────────────────────┘└──────────────────────────────────────┘
┌ learning rate 1.00e-3 ──┐┌ images/s 325 ──────────┐┌ kNN 75.0 % (untrained 25┐
│1e-3│                    ││▅▅▆▆▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇▇▇█││77.5 %│  ⢀⣀⣀⣀⣀⠤⠤⠤⠤⠒⠒⠒⠒⠊⠉⠉│
│9e-4│⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉││████████████████████████││22.5 %│⠉⠉⠁⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀│
│    └────────────────────││████████████████████████││      └──────────────────│
│    1                  50││████████████████████████││     20                40│
└─────────────────────────┘└────────────────────────┘└─────────────────────────┘
online.mask: 8 of 16 patches visible
after 4 epochs: kNN accuracy 75.0 %


████████████████████50 %, 2 minutes left                      q saves and leaves
";
}
