//! Every setting and definition of a run by its name: to lay runs side by side, and to tell a run from what shall go on with it.

use serde_json::{Map, Value};

use crate::spec::Spec;

/// Every setting by its path (`train.optimizer.AdamW.betas`), as text.
pub fn flat(spec: &Spec) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // Plain data: it always serializes, but for numbers that are not finite, which are null.
    let mut value = serde_json::to_value(spec).unwrap_or(Value::Null);
    if let Value::Object(entries) = &mut value {
        entries.remove("definitions");
        if let Some(Value::Object(evaluate)) = entries.get_mut("evaluate") {
            by_name(evaluate);
        }
    }
    flatten("", &value, &mut found);
    found.extend(definitions(spec));
    found
}

/// Definitions by their names, and the arguments of their blocks: `model.encoder` and `model.encoder.depth`.
pub fn definitions(spec: &Spec) -> impl Iterator<Item = (String, String)> {
    spec.definitions.iter().flat_map(|definition| {
        let own = (definition.name.clone(), definition.text.clone());
        let arguments = definition.block.iter().flat_map(|block| &block.arguments);
        let argument = |(name, value): &(String, String)| (format!("{}.{name}", definition.name), value.clone());
        std::iter::once(own).chain(arguments.map(argument))
    })
}

/// Paths at which not all of `all` have the same value: each with every value, `None` where there is no such setting.
pub fn differences(all: &[Vec<(String, String)>]) -> Vec<(String, Vec<Option<String>>)> {
    let mut paths: Vec<&String> = Vec::new();
    for (path, _) in all.iter().flatten() {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let values = |path: &String| -> Vec<Option<String>> {
        let of = |one: &Vec<(String, String)>| one.iter().find(|(p, _)| p == path).map(|(_, value)| value.clone());
        all.iter().map(of).collect()
    };
    let rows = paths.into_iter().map(|path| (path.clone(), values(path)));
    rows.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}

/// Evaluations by their names, as a file sets them: `evaluate.knn.k`.
fn by_name(evaluate: &mut Map<String, Value>) {
    for kind in ["classifications", "segmentations"] {
        let Some(Value::Array(judged)) = evaluate.remove(kind) else { continue };
        for mut one in judged {
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            one.as_object_mut().and_then(|settings| settings.remove("name"));
            evaluate.insert(name, one);
        }
    }
    let Some(Value::Array(evaluations)) = evaluate.remove("evaluations") else { return };
    for mut evaluation in evaluations {
        // `how` is an object of one entry: what judges, with its settings.
        let how = evaluation["how"].as_object_mut().and_then(|how| how.values_mut().next().map(Value::take));
        let name = evaluation["name"].as_str().unwrap_or_default().to_owned();
        let Some(Value::Object(mut settings)) = how else { continue };
        settings.insert("output".to_owned(), evaluation["output"].take());
        evaluate.insert(name, Value::Object(settings));
    }
}

fn flatten(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(name, entry)| flatten(&below(name), entry, found));
        }
        Value::Array(items) if items.iter().any(is_compound) => {
            for (at, item) in items.iter().enumerate() {
                match named(item) {
                    Some((name, Some(inner))) => flatten(&below(name), inner, found),
                    Some((name, None)) => flatten(&below(name), item, found),
                    None => flatten(&below(&at.to_string()), item, found),
                }
            }
        }
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        other => found.push((path.to_owned(), other.to_string())),
    }
}

fn is_compound(value: &Value) -> bool {
    value.is_object() || value.as_array().is_some_and(|items| items.iter().any(is_compound) || pair(items).is_some())
}

/// Name of an item of a list: its own field (`views`), or the first of a pair (`data.sources`, `params`), which then has
/// the second as its value.
fn named(item: &Value) -> Option<(&str, Option<&Value>)> {
    match item {
        Value::Object(entries) => entries.get("name").and_then(Value::as_str).map(|name| (name, None)),
        Value::Array(items) => pair(items).map(|(name, value)| (name, Some(value))),
        _ => None,
    }
}

fn pair(items: &[Value]) -> Option<(&str, &Value)> {
    match items {
        [Value::String(name), value] => Some((name, value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_things_are_found_by_name() {
        let mut found = Vec::new();
        let value = json!({
            "params": [["mask_ratio", "50%"]],
            "views": [{"name": "online", "ops": [{"Crop": {"at": [0, 0]}}, "Flip"]}],
            "betas": [0.9, 0.95],
        });
        flatten("", &value, &mut found);
        let lines: Vec<String> = found.iter().map(|(path, value)| format!("{path}={value}")).collect();
        assert_eq!(
            lines,
            [
                "betas=[0.9,0.95]",
                "params.mask_ratio=50%",
                "views.online.name=online",
                "views.online.ops.0.Crop.at=[0,0]",
                "views.online.ops.1=Flip",
            ]
        );
    }

    #[test]
    fn what_one_run_alone_has_is_a_difference() {
        let of =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        let found = differences(&[of(&[("a", "1"), ("b", "2")]), of(&[("a", "1"), ("c", "3")])]);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found, [("b".to_owned(), vec![text("2"), None]), ("c".to_owned(), vec![None, text("3")])]);
    }
}
