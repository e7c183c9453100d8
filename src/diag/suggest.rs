//! Did-you-mean: the known name nearest to an unknown one.

/// `help` text for an unknown name: the nearest of `known` if it is near, else the list if it is short.
pub fn suggest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    // A name of this language is shorter; what is not one has no neighbour, and comparing would take long.
    let nearest = known
        .iter()
        .filter(|_| unknown.len() <= 100)
        .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        // A third of the letters may differ, and always two of a short name's.
        Some((distance, name)) if distance <= (unknown.len() / 3).max(2) && distance < name.len() => {
            Some(format!("did you mean `{name}`?"))
        }
        _ if known.is_empty() || known.len() > 12 => None,
        _ => Some(format!("there is {}", listed(&known))),
    }
}

/// "`a`, `b` and `c`".
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
