//! What a word means where a section's name belongs.

use super::place::SECTIONS;

/// Words for sections that people bring.
pub const SYNONYMS: [(&str, &[&str]); 7] = [
    ("data", &["dataset", "datasets", "dataloader", "data_loader", "loader", "input", "inputs", "source", "sources"]),
    ("views", &["view", "transform", "transforms", "augment", "augmentation", "augmentations", "crops", "pipeline"]),
    ("model", &["models", "module", "modules", "network", "networks", "net", "nets", "architecture", "backbone"]),
    ("losses", &["loss", "objective", "objectives", "criterion", "criteria", "cost"]),
    ("monitor", &["monitors", "metric", "metrics", "logging", "log", "logs", "monitoring"]),
    (
        "train",
        &["training", "trainer", "optim", "optimizer", "optimizers", "optimization", "schedule", "scheduler", "fit"],
    ),
    ("evaluate", &["eval", "evaluation", "validation", "validate", "val", "test", "evaluator", "knn", "probe"]),
];

/// The section that a word means: its name misspelt, or another word for it.
pub fn section_of(word: &str) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|(_, words)| words.contains(&word)).map(|(section, _)| *section);
    nearest(word, &SECTIONS).or(synonym)
}

/// The one of `known` that `word` is nearly, and not another.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = word.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, name);
    let (distance, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (word.len() <= 100 && word.len() > 2 && distance <= (name.len() / 3).max(1)).then_some(name)
}
