//! What differs between the program that a run was started with and the one that shall go on with it.

use serde::Serialize;
use serde_json::Value;

use super::settings;
use crate::graph::Program;
use crate::spec::Spec;

/// Settings of data, views and training that differ: `train.seed was 0 and is 1`. Evaluation may change as it likes.
///
/// The error: a tensor that one of both lacks or has in another shape, so that no checkpoint fits.
pub fn changes(before: &Program, now: &Program) -> Result<Vec<String>, String> {
    for new in &now.layout.tensors {
        match before.layout.get(&new.path) {
            None => return Err(format!("`{}` is a tensor that it does not have", new.path)),
            Some((old, _)) if old.shape != new.shape => {
                return Err(format!("`{}` was {:?} and is {:?}", new.path, old.shape, new.shape));
            }
            Some(_) => {}
        }
    }
    if let Some(gone) = before.layout.tensors.iter().find(|old| now.layout.get(&old.path).is_none()) {
        return Err(format!("it has the tensor `{}`, which the pipeline has no more", gone.path));
    }
    if before.layout != now.layout {
        return Err("its tensors are trained or averaged otherwise".to_owned());
    }
    let mut found = Vec::new();
    let sections: [(&str, Value, Value); 3] = [
        ("data", json(&before.spec.data), json(&now.spec.data)),
        ("views", json(&before.spec.views), json(&now.spec.views)),
        ("train", json(&before.spec.train), json(&now.spec.train)),
    ];
    sections.iter().for_each(|(name, before, now)| compare(name, before, now, &mut found));
    if before.train != now.train || before.emas != now.emas {
        let settings = found.len();
        definitions(&before.spec, &now.spec, &mut found);
        if settings == 0 && found.is_empty() {
            found.push("its training graph differs: a block or a function of its files".to_owned());
        }
    }
    Ok(found)
}

/// Definitions that differ, with the block's arguments where those alone do. How one is written changes nothing, so that this is
/// for graphs that differ.
fn definitions(before: &Spec, now: &Spec, found: &mut Vec<String>) {
    let [before, now] = [before, now].map(|spec| settings::definitions(spec).collect::<Vec<_>>());
    if before.is_empty() {
        // Of a version that did not record them.
        return;
    }
    let value = |of: &[(String, String)], name: &str| of.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone());
    for (name, old) in &before {
        match value(&now, name) {
            Some(new) if new == *old => {}
            Some(new) => found.push(format!("{name} was {old} and is {new}")),
            None => found.push(format!("{name} was {old} and is gone")),
        }
    }
    let added = now.iter().filter(|(name, _)| value(&before, name).is_none());
    found.extend(added.map(|(name, new)| format!("{name} is new: {new}")));
}

fn json(section: &impl Serialize) -> Value {
    serde_json::to_value(section).expect("settings are plain data with text for keys")
}

fn compare(path: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(old), Value::Object(new)) if old.keys().eq(new.keys()) => {
            for (key, value) in old {
                compare(&format!("{path}.{key}"), value, &new[key], found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                // Lists of (name, value) are told by the name.
                match (old.get(0).and_then(Value::as_str), old.get(1), new.get(0), new.get(1)) {
                    (Some(name), Some(a), Some(other), Some(b)) if other == name => {
                        compare(&format!("{path}.{name}"), a, b, found);
                    }
                    _ => compare(&format!("{path}[{i}]"), old, new, found),
                }
            }
        }
        _ if before == now => {}
        _ => found.push(format!("{path} was {before} and is {now}")),
    }
}
