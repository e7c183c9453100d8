//! Did-you-mean: the known name nearest to an unknown one.
//!
//! **Invariant:** a guess is one that its reader would have made: a slip of the fingers, another way to write the same words, or
//! the same word with another beside it. A wild one costs more than none.

/// `help` text for an unknown name: the nearest of `known` if it is near, else the list if it is short.
pub fn suggest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    match nearest(unknown, known.iter().copied()) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if known.is_empty() || known.len() > 12 => None,
        None => Some(format!("there is {}", listed(&known))),
    }
}

/// Whether `known` is what somebody who writes `unknown` may well have meant.
pub fn is_near(unknown: &str, known: &str) -> bool {
    nearest(unknown, [known]).is_some()
}

/// The name that is meant, where one is near enough.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name of this language is shorter; what is not one has no neighbour, and comparing would take long.
    if unknown.len() > 100 {
        return None;
    }
    let plain = plain(unknown);
    known
        .into_iter()
        .filter_map(|name| Some((remoteness(unknown, &plain, name)?, name)))
        .min_by_key(|(remoteness, name)| (*remoteness, name.len(), *name))
        .map(|(_, name)| name)
}

/// How far `name` is from what was written: none where nobody would take one for the other.
fn remoteness(unknown: &str, plain_unknown: &str, name: &str) -> Option<usize> {
    let plain_name = plain(name);
    let slips = strsim::damerau_levenshtein(plain_unknown, &plain_name);
    // `cat` is not `data`, and `key` is not `len`: in a short word one letter is much.
    let allowed = match plain_unknown.chars().count().min(plain_name.chars().count()) {
        0..=2 => 0,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    if slips <= allowed {
        return Some(slips);
    }
    // `biases` for `bias`.
    let (short, long) = if plain_unknown.len() < plain_name.len() {
        (plain_unknown, &*plain_name)
    } else {
        (&*plain_name, plain_unknown)
    };
    if short.len() >= 4 && long.starts_with(short) && long.len() - short.len() <= 2 {
        return Some(3);
    }
    // `dim` for `embed_dim`, `random_horizontal_flip` for `random_flip`.
    let (some, others) = (words(unknown), words(name));
    let (few, many) = if some.len() <= others.len() { (&some, &others) } else { (&others, &some) };
    let told = few.iter().map(|word| word.len()).sum::<usize>() >= 3;
    let within = few.len() < many.len() && few.iter().all(|word| many.contains(word));
    (told && within).then_some(4 + many.len() - few.len())
}

/// Without what people write now so, now so: `batchSize` and `batch_size`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

fn words(name: &str) -> Vec<String> {
    name.split('_').filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// "`a`, `b` and `c`".
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{}`", n.as_ref())).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
