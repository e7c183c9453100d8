//! Rules of `train.parameters`: what they select, what they set, and one rule for each value of a loop.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, Reported, suggest};
use crate::source::Span;
use crate::spec::{ParameterRule, Role, Selector};
use crate::syntax::ast::{Loop, Name, Rule, RuleSelector};

use super::misfit::wrong_type;
use super::scope::Scope;
use super::settings::{as_duration, as_schedule, as_weight_decay};
use super::value::{Kind, Value};
use super::{Checked, Machine, foreign};

const SETTINGS: [&str; 5] = ["weight_decay", "learning_rate", "learning_rate_factor", "adaptation", "frozen_until"];

impl Machine<'_> {
    /// One rule, or one for each value that its loop goes through.
    pub(super) fn rules(&mut self, rule: &Rule, scope: &Rc<Scope>, batch_size: usize) -> Checked<Vec<ParameterRule>> {
        let Some(Loop { name, values }) = &rule.each else { return Ok(vec![self.rule(rule, scope, batch_size)?]) };
        let mut rules: Vec<ParameterRule> = Vec::new();
        let over = self.eval(values, scope)?;
        let values = self.iterated(&over)?;
        if values.is_empty() {
            return self.fail(
                Diagnostic::new(Code::OutOfRange, format!("{over} holds nothing: the rule is never made"))
                    .label(over.span, "empty")
                    .help("write a range such as `0..12`: 0 to 11"),
            );
        }
        for value in values {
            let inner = Scope::inside(scope);
            inner.define(name, value);
            let made = self.rule(rule, &inner, batch_size)?;
            // The first rule would hide all others.
            if rules.last().is_some_and(|last| last.selector == made.selector) {
                let message = format!("no path of this rule names `{}`", name.text);
                return self.fail(
                    Diagnostic::new(Code::UnusedLoop, message)
                        .label(name.span, "the same paths each time")
                        .help(format!("name it in braces: `path \"encoder.blocks.{{{}}}.*\"`", name.text)),
                );
            }
            rules.push(made);
        }
        Ok(rules)
    }

    fn rule(&mut self, rule: &Rule, scope: &Rc<Scope>, batch_size: usize) -> Checked<ParameterRule> {
        let mut parsed = ParameterRule {
            selector: self.selector(&rule.selector, scope)?,
            weight_decay: None,
            learning_rate: None,
            learning_rate_factor: None,
            adaptation: None,
            frozen_until: None,
        };
        for (name, expr) in &rule.settings {
            let value = self.eval(expr, scope)?;
            self.check_range("parameters", &name.text, &value)?;
            let result = set(&mut parsed, name, &value, batch_size);
            self.check(result)?;
        }
        Ok(parsed)
    }

    fn selector(&mut self, selector: &RuleSelector, scope: &Rc<Scope>) -> Checked<Selector> {
        Ok(match selector {
            RuleSelector::Roles(names) => {
                let mut roles = Vec::new();
                for name in names {
                    match Role::ALL.iter().find(|r| r.name() == &*name.text) {
                        Some(role) => roles.push(*role),
                        None => {
                            let help = suggest(&name.text, Role::ALL.iter().map(|r| r.name()));
                            return self.fail(
                                Diagnostic::new(Code::UnknownName, format!("there is no role `{}`", name.text))
                                    .label(name.span, "not known")
                                    .maybe_help(help),
                            );
                        }
                    }
                }
                Selector::Roles(roles)
            }
            RuleSelector::Paths(exprs) => {
                let mut globs = Vec::new();
                for expr in exprs {
                    let value = self.eval(expr, scope)?;
                    match &value.kind {
                        Kind::Str(text) => globs.push(self.filled(text, value.span, scope)?),
                        Kind::Module(id) => globs.push(format!("{}.*", self.modules[id.0].path)),
                        Kind::Stored(path, _) => globs.push(path.to_string()),
                        _ => return self.fail(wrong_type("`path`", &value, "a string such as \"encoder.blocks.*\"")),
                    }
                }
                Selector::Paths(globs)
            }
        })
    }

    /// A path with the values of the names that stand in braces in it.
    fn filled(&mut self, text: &str, span: Span, scope: &Rc<Scope>) -> Checked<String> {
        let mut filled = text.to_owned();
        for name in names_in(text) {
            let shown = match scope.get(name).map(|value| (value.whole(), value)) {
                Some((Some(number), _)) => number.to_string(),
                Some((None, Value { kind: Kind::Str(text), .. })) => text.to_string(),
                Some((None, Value { kind: Kind::Poison, .. })) => return Err(Reported),
                Some((None, value)) => {
                    let what = format!("`{{{name}}}` in a path");
                    return self.fail(wrong_type(&what, &value, "a whole number or a string"));
                }
                None => {
                    let known = scope.visible();
                    return self.fail(
                        Diagnostic::new(Code::UnknownName, format!("`{name}` is not known here"))
                            .label(span, format!("`{{{name}}}` stands for its value"))
                            .maybe_help(suggest(name, known.iter().map(String::as_str))),
                    );
                }
            };
            filled = filled.replace(&format!("{{{name}}}"), &shown);
        }
        Ok(filled)
    }
}

/// Names that stand in braces in a path: `encoder.blocks.{i}.*`.
pub(super) fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

fn set(rule: &mut ParameterRule, name: &Name, value: &Value, batch_size: usize) -> Result<(), Diagnostic> {
    let what = format!("`{}`", name.text);
    match (&*name.text, &value.kind) {
        ("weight_decay", _) => rule.weight_decay = Some(as_weight_decay(&what, value)?),
        ("learning_rate", _) => match as_schedule(value, batch_size) {
            Some(schedule) => rule.learning_rate = Some(schedule),
            None => return Err(wrong_type(&what, value, "a number or a schedule such as cosine(…)")),
        },
        ("learning_rate_factor", _) => match value.number() {
            Some(factor) => rule.learning_rate_factor = Some(factor),
            None => return Err(wrong_type(&what, value, "a number from 0")),
        },
        ("adaptation", Kind::Bool(adaptation)) => rule.adaptation = Some(*adaptation),
        ("adaptation", _) => return Err(wrong_type(&what, value, "true or false")),
        ("frozen_until", _) => rule.frozen_until = Some(as_duration(&what, value)?),
        (other, _) => {
            return Err(Diagnostic::new(Code::UnknownSetting, format!("a parameter rule has no setting `{other}`"))
                .label(name.span, "not known")
                .maybe_help(
                    foreign::argument(other, &SETTINGS)
                        .map(|meant| format!("did you mean `{meant}`?"))
                        .or_else(|| suggest(other, SETTINGS)),
                ));
        }
    }
    Ok(())
}
