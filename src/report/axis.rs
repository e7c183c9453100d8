//! Axes: what part of the numbers is shown, round ticks, and how numbers are written.

/// Ticks that an axis has about.
const TICKS: f64 = 5.0;

/// A linear axis over `low..=high`, whose ends may lie between ticks.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    /// Distance of ticks: 1, 2, 2.5 or 5 times a power of ten.
    step: f64,
}

impl Axis {
    /// The axis that shows `low..=high`, with a little room around unless it is `tight`. Equal ends are moved apart.
    pub fn new(low: f64, high: f64, tight: bool) -> Axis {
        let (low, high) = if low < high { (low, high) } else { (low - 0.5 * half(low), low + 0.5 * half(low)) };
        let room = if tight { 0.0 } else { 0.05 * (high - low) };
        // What is never negative gets no room below zero.
        let low = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        let high = high + room;
        let rough = (high - low) / TICKS;
        let power = libm::pow(10.0, libm::log10(rough).floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= rough * 0.999);
        Axis { low, high, step: step.unwrap_or(10.0 * power) }
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Ticks within the axis, with their labels.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let (first, last) =
            ((self.low / self.step - 1e-9).ceil() as i64, (self.high / self.step + 1e-9).floor() as i64);
        (first..=last).map(|n| n as f64 * self.step).map(|value| (value, self.label(value))).collect()
    }

    /// With just the digits that tell ticks apart.
    fn label(&self, value: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if value == 0.0 {
            return "0".to_owned();
        }
        if !(1e-3..1e6).contains(&largest) {
            return scientific(value, 3);
        }
        // 2.5 needs one digit more than 2.
        let decimals = (0..9).find(|d| {
            let power = libm::pow(10.0, f64::from(*d));
            ((self.step * power).round() / power - self.step).abs() < 1e-9 * self.step
        });
        grouped(&format!("{value:.0$}", decimals.unwrap_or(9) as usize))
    }
}

fn half(value: f64) -> f64 {
    if value == 0.0 { 1.0 } else { value.abs() }
}

/// A number for people: four digits that count.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e7).contains(&size) {
        return scientific(value, 2);
    }
    let decimals = (3 - libm::log10(size).floor() as i32).max(0) as usize;
    grouped(&format!("{value:.decimals$}"))
}

/// A number with two decimals at most, without zeros that say nothing: epochs.
pub fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A share as percent with one decimal; the space does not break.
pub fn percent(share: f64) -> String {
    if share.is_finite() { minus(&format!("{:.1}\u{a0}%", share * 100.0)) } else { "–".to_owned() }
}

/// `1.5e-4`, without zeros that say nothing.
fn scientific(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    minus(&format!("{mantissa}e{exponent}"))
}

/// Thousands apart.
fn grouped(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or(text);
    let digits = whole.trim_start_matches('-').len();
    if digits < 4 {
        return minus(text);
    }
    let start = whole.len() - digits;
    let mut out = String::new();
    for (at, digit) in text.char_indices() {
        if at > start && at < whole.len() && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    minus(&out)
}

/// The sign that is as wide as a digit.
fn minus(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(rest) => format!("−{rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> String {
        Axis::new(low, high, true).ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 30.0), "0 10 20 30");
        assert_eq!(labels(0.57, 1.33), "0.6 0.8 1.0 1.2");
        assert_eq!(labels(0.0, 1.5e-4), "0 5e-5 1e-4 1.5e-4");
        assert_eq!(labels(0.0, 25_000.0), "0 5,000 10,000 15,000 20,000 25,000");
        assert_eq!(labels(-1.0, 1.0), "−1.0 −0.5 0 0.5 1.0");
    }

    #[test]
    fn equal_ends_are_moved_apart() {
        for value in [0.0, 3.0, -2.0, 1e-9] {
            let axis = Axis::new(value, value, false);
            assert!(axis.low < axis.high && !axis.ticks().is_empty(), "{axis:?}");
        }
    }

    #[test]
    fn figures_have_four_digits() {
        let cases = [
            (0.123_456, "0.1235"),
            (12.345_6, "12.35"),
            (1234.6, "1,235"),
            (123_456.0, "123,456"),
            (1.5e-4, "1.5e-4"),
            (-0.5, "−0.5000"),
            (0.0, "0"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
        assert_eq!(percent(0.8363), "83.6\u{a0}%");
        assert_eq!([short(30.0), short(1.524), short(0.1)], ["30", "1.52", "0.1"]);
    }
}
