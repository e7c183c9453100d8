//! Recovery: what is wrong in a text that the grammar refuses, all of it, and the text with that mended or left out.
//!
//! Letters come first, then numbers, bodies and brackets, which are found over the whole text; then the grammar is asked again and
//! again, and each place where it gives up is mended by a wrong form that is known ([`forms`]), or left out.
//!
//! **Invariant:** what is told is told of a place once, and what only follows from it is not.

use pest::Parser;
use pest::error::{Error, InputLocation};

use super::mended::{Fault, Mended};
use super::place::{Place, Within};
use super::token::tokens;
use super::{Grammar, Rule, brackets, forms, heads, letters, limits, numbers};
use crate::diag::Diagnostic;
use crate::source::{SourceId, Span};

/// Faults that are mended one by one: nobody reads more at once.
const MAX_ROUNDS: usize = 100;
/// Bytes that are parsed for one text, so that a long one that is broken throughout takes no longer than a blink.
const MAX_PARSED: usize = 4_000_000;
/// Faults of one form that are told by themselves; further ones are counted.
const MAX_ALIKE: usize = 5;

/// Places on one line that are shown by themselves.
const MAX_LABELS: usize = 8;

/// What was found, in the order of the text, and the text that the grammar takes, where there is one.
pub struct Recovered {
    pub told: Vec<Diagnostic>,
    pub mended: Option<Mended>,
}

/// What is wrong in `text`, which the grammar refuses as `rule`.
pub fn recover(id: SourceId, text: &str, rule: Rule) -> Recovered {
    let mut recovery = Recovery { id, written: text, mended: Mended::new(text), told: Vec::new(), stuck: None };
    let is_mended = recovery.run(rule);
    let Recovery { mended, told, .. } = recovery;
    Recovered { told: finished(told), mended: is_mended.then_some(mended) }
}

struct Told {
    form: &'static str,
    diagnostic: Diagnostic,
    /// Of the entry that it is about, in the text as written.
    within: Span,
    alike: usize,
}

struct Recovery<'t> {
    id: SourceId,
    written: &'t str,
    mended: Mended,
    told: Vec<Told>,
    /// The byte behind which something was left out last.
    stuck: Option<usize>,
}

impl Recovery<'_> {
    /// Whether the text is one of the language in the end.
    fn run(&mut self, rule: Rule) -> bool {
        self.tell_all(letters::faults(&self.mended.text));
        self.tell_all(numbers::faults(&self.mended.text, &tokens(&self.mended.text)));
        if !self.is_within_limits() {
            return false;
        }
        if rule == Rule::file {
            self.tell_all(heads::faults(&self.mended.text, &tokens(&self.mended.text)));
        }
        self.tell_all(brackets::faults(&self.mended.text, &tokens(&self.mended.text)));
        // Without it, where a sign is missing is not known, but where the last rule began. It stays: other threads may read as well.
        pest::set_error_detail(true);
        let mut parsed = 0;
        for _ in 0..MAX_ROUNDS {
            parsed += self.mended.text.len();
            if parsed > MAX_PARSED || !self.is_within_limits() {
                break;
            }
            let Err(error) = Grammar::parse(rule, &self.mended.text) else { return true };
            let at = stopped(&error);
            if !self.mend(rule, at) {
                break;
            }
        }
        false
    }

    /// Mends the place at byte `at`, and tells it unless it follows from what was told; whether anything changed.
    fn mend(&mut self, rule: Rule, at: usize) -> bool {
        let text = self.mended.text.clone();
        let tokens = tokens(&text);
        let place = Place::new(root(rule), &text, &tokens, at);
        let (start, end) = place.entry();
        let within = self.mended.span(self.id, &place.bytes(start, end.max(start + 1)));
        let before = place.gap(place.at).start;
        let fault = match forms::form(&place) {
            Some(fault) => fault,
            // What stands before it makes one thing after the other unreadable.
            None if self.stuck == Some(before) => forms::before(&place),
            None => forms::unread(&place),
        };
        self.stuck = (fault.form == "unread").then_some(before);
        let changes = fault.edits.iter().any(|edit| text.get(edit.range.clone()) != Some(&edit.text));
        if fault.form != "unread" || !self.is_told(within) {
            self.tell(&fault, within);
        }
        if changes {
            self.apply(fault);
            return true;
        }
        // A form that changes nothing is no way on.
        let rest = forms::unread(&place);
        let changes = rest.edits.iter().any(|edit| text.get(edit.range.clone()) != Some(&edit.text));
        self.apply(rest);
        changes
    }

    fn is_told(&self, within: Span) -> bool {
        self.told.iter().any(|told| {
            let first = told.diagnostic.labels.first().map_or(told.within, |(span, _)| *span);
            first.start <= within.end && within.start <= first.end || told.within == within
        })
    }

    fn tell_all(&mut self, faults: Vec<Fault>) {
        for fault in &faults {
            let first = fault.labels.first().map_or(0..0, |(range, _)| range.clone());
            let within = self.mended.span(self.id, &first);
            self.tell(fault, within);
        }
        for fault in &faults {
            self.mended.leave_out(fault.left_out.clone(), &fault.lost);
        }
        self.mended.apply(faults.into_iter().flat_map(|fault| fault.edits).collect());
    }

    fn apply(&mut self, fault: Fault) {
        self.mended.leave_out(fault.left_out, &fault.lost);
        self.mended.apply(fault.edits);
    }

    /// Faults of one form on one line are one, with a label for each.
    fn tell(&mut self, fault: &Fault, within: Span) {
        let diagnostic = fault.diagnostic(self.id, &self.mended);
        let place = diagnostic.labels.first().map_or(within, |(span, _)| *span);
        let here = line_of(self.written, place);
        let alike = self.told.iter().filter(|told| told.form == fault.form).count();
        if let Some(last) = self.told.iter_mut().rev().find(|told| told.form == fault.form) {
            let first = last.diagnostic.labels.first().map_or(last.within, |(span, _)| *span);
            if line_of(self.written, first) == here && first != place {
                if last.diagnostic.labels.len() >= MAX_LABELS {
                    last.alike += 1;
                    return;
                }
                let text = diagnostic.labels.first().map_or(String::new(), |(_, text)| text.clone());
                last.diagnostic.labels.push((place, text));
                last.diagnostic.edits.extend(diagnostic.edits);
                return;
            }
            if alike >= MAX_ALIKE {
                last.alike += 1;
                return;
            }
        }
        self.told.push(Told { form: fault.form, diagnostic, within, alike: 0 });
    }

    fn is_within_limits(&mut self) -> bool {
        let Err(diagnostic) = limits::check(self.id, &self.mended.text) else { return true };
        let labels = diagnostic
            .labels
            .iter()
            .map(|(span, text)| (self.mended.span(self.id, &(span.start as usize..span.end as usize)), text.clone()));
        let diagnostic = Diagnostic { labels: labels.collect(), ..diagnostic };
        let within = diagnostic.labels.first().map_or(Span::new(self.id, 0, 0), |(span, _)| *span);
        self.told.push(Told { form: "limit", diagnostic, within, alike: 0 });
        false
    }
}

/// The byte up to which the text was read.
fn stopped(error: &Error<Rule>) -> usize {
    let of_rules = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    error.parse_attempts().map_or(of_rules, |attempts| attempts.max_position.max(of_rules))
}

/// Where the line of a place begins.
fn line_of(text: &str, span: Span) -> usize {
    text[..span.start as usize].rfind(['\n', '\r']).map_or(0, |end| end + 1)
}

/// In the order of the text.
fn finished(mut told: Vec<Told>) -> Vec<Diagnostic> {
    told.sort_by_key(|told| told.diagnostic.labels.first().map_or(0, |(span, _)| span.start));
    told.into_iter()
        .map(|Told { mut diagnostic, alike, .. }| {
            if alike > 0 {
                diagnostic.message.push_str(&format!(", and so in {alike} more places"));
            }
            diagnostic
        })
        .collect()
}

/// What the text as a whole holds.
fn root(rule: Rule) -> Within {
    match rule {
        Rule::file => Within::File,
        // `--set` is a change as those of variants.
        Rule::override_argument | Rule::sweep_argument => Within::Variant,
        _ => Within::Group,
    }
}
