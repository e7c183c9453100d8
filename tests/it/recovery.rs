//! Syntax errors recover: each mistake is told once wherever it stands, and the rest of the file is checked.

use std::path::Path;

use cmae::diag::{Code, Diagnostic, Diagnostics};
use cmae::source::Sources;

use crate::cases::Noise;
use crate::command::root;
use crate::lang::edited;
use crate::pages::Page;

/// What is told of `text`, as a file beside the shipped pipelines.
fn told(text: &str) -> Vec<Diagnostic> {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let path = Path::new("pipelines/example.cmae");
    sources.add_file(path, text);
    assert!(cmae::compile(&mut sources, &mut diagnostics, path, &[]).is_err(), "{text}");
    diagnostics.list().to_vec()
}

fn messages(text: &str) -> Vec<String> {
    told(text).into_iter().map(|diagnostic| diagnostic.message).collect()
}

/// Mistakes whose message names the pipeline, which another may have changed.
const NAMING: [&str; 2] = ["the last brace", "a name with a dash"];

/// One mistake of the pages: the lines that it replaces, by number, what stands there then, and what is told.
struct Mistake {
    page: &'static str,
    heading: String,
    lines: std::ops::Range<usize>,
    new: Vec<String>,
    message: String,
}

/// All that are told by one message.
fn mistakes() -> Vec<Mistake> {
    let quickstart: Vec<&str> = include_str!("../lang/quickstart.cmae").lines().collect();
    let mut mistakes = Vec::new();
    for name in ["separators", "brackets", "letters", "statements", "values", "heads"] {
        let page = Page::read(root(&format!("tests/lang/syntax_{name}.md")));
        for fence in page.fences.iter().filter(|fence| fence.info == "edit") {
            let of =
                |sign: char| fence.text.lines().filter_map(move |line| line.strip_prefix(sign)).collect::<Vec<_>>();
            let old = of('-');
            // What goes to the end of the file has no line behind it.
            let Some(start) = (0..quickstart.len()).find(|at| quickstart[*at..].starts_with(&old)) else { continue };
            let found = messages(&edited(&fence.text));
            if let [message] = found.as_slice() {
                let new = of('+').into_iter().map(str::to_owned).collect();
                let lines = start..start + old.len();
                mistakes.push(Mistake {
                    page: name,
                    heading: fence.heading.clone(),
                    lines,
                    new,
                    message: message.clone(),
                });
            }
        }
    }
    mistakes
}

#[test]
fn five_mistakes_in_five_places_give_five_messages() {
    let text = [
        ("  param temperature     = 0.07", "  param temperature     = 0.07;"),
        ("    batch_size = 64", "    batch_size: 64"),
        ("embed_dim: 96, depth: 3", "embed_dim=96, depth: 3"),
        ("pixel_decoder(latent, restore: mask)", "pixel_decoder(latent restore: mask)"),
        ("every: 5 epochs)\n    rec", "every: 5 epochs\n    rec"),
    ]
    .into_iter()
    .fold(include_str!("../lang/quickstart.cmae").to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    let wanted = [
        "nothing ends with `;` here",
        "a setting takes `=`, not `:`",
        "an argument's name is followed by `:`, not by `=`",
        "a comma is missing between two arguments",
        "the `(` of `knn` is not closed",
    ];
    assert_eq!(messages(&text), wanted);
}

/// Any five of the pages' mistakes that stand in five places: the same five messages as each gives alone.
#[test]
fn mistakes_of_all_kinds_do_not_hide_each_other() {
    let mut mistakes = mistakes();
    mistakes.retain(|mistake| !NAMING.contains(&mistake.heading.as_str()));
    assert!(mistakes.len() > 140, "{}", mistakes.len());
    let (mut noise, mut problems, mut tried) = (Noise(7), Vec::new(), 0);
    while tried < 60 {
        let mut chosen: Vec<&Mistake> = Vec::new();
        for _ in 0..50 {
            let mistake = &mistakes[noise.below(mistakes.len())];
            // A line between them, so that no entry has two.
            let is_apart =
                |other: &&Mistake| mistake.lines.end < other.lines.start || other.lines.end < mistake.lines.start;
            // A bracket too few makes up for one too many.
            let is_second = mistake.page == "brackets" && chosen.iter().any(|other| other.page == "brackets");
            if chosen.len() < 5 && !is_second && chosen.iter().all(is_apart) {
                chosen.push(mistake);
            }
        }
        if chosen.len() < 5 {
            continue;
        }
        tried += 1;
        chosen.sort_by_key(|mistake| std::cmp::Reverse(mistake.lines.start));
        let mut lines: Vec<String> = include_str!("../lang/quickstart.cmae").lines().map(str::to_owned).collect();
        for mistake in &chosen {
            lines.splice(mistake.lines.clone(), mistake.new.clone());
        }
        let mut found = messages(&(lines.join("\n") + "\n"));
        let mut wanted: Vec<String> = chosen.iter().map(|mistake| mistake.message.clone()).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        if found != wanted {
            let headings: Vec<&str> = chosen.iter().map(|mistake| mistake.heading.as_str()).collect();
            problems.push(format!("{headings:?}\n  wanted {wanted:#?}\n  found {found:#?}"));
        }
    }
    assert!(problems.is_empty(), "{} of {tried}\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_rest_of_a_file_is_checked() {
    let with = |pairs: &[(&str, &str)]| {
        pairs.iter().fold(include_str!("../lang/quickstart.cmae").to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replacen(old, new, 1)
        })
    };
    // A name and a type that are wrong, beside a text that does not follow the grammar.
    let text = with(&[
        ("batch_size = 64", "batch_size: 64"),
        ("|> mean_tokens |> momentum.projector", "|> mean_tokenz |> momentum.projector"),
        ("param mask_ratio      = 50%", "param mask_ratio      = 0.5"),
    ]);
    let codes: Vec<Code> = told(&text).iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(codes.len(), 3, "{codes:?}");
    for code in [Code::Separator, Code::UnknownName, Code::WrongUnit] {
        assert!(codes.contains(&code), "{codes:?}");
    }
    // What could not be read is left out, and nothing is said of what hangs on it.
    for (old, new) in [
        (
            "    encoder         = vit(image_size, patch_size, embed_dim: 96",
            "    encoder         = vit(image_size ? patch_size, embed_dim: 96",
        ),
        ("    mask   = random_mask(encoder.grid, mask_ratio)", "    mask   = ] random_mask(encoder.grid, mask_ratio"),
        ("    master = data.train |>", "    master = data.train |> ** |>"),
        ("    optimizer     = adamw", "    optimizer     = = / adamw"),
        ("    train      = digits(\"train\")", "    train      = digits digits digits"),
        ("  branch target {", "  brunch target: of {"),
    ] {
        let found = told(&with(&[(old, new)]));
        assert!(!found.is_empty() && found.iter().all(|diagnostic| diagnostic.code.is_syntax()), "{new}: {found:#?}");
    }
}

#[test]
fn each_message_says_what_to_write() {
    for mistake in mistakes() {
        assert!(!mistake.message.starts_with(char::is_uppercase), "{}", mistake.message);
        // The grammar's rules are no words for who writes a pipeline.
        for rule in ["expected", "unexpected", "_entry", "EOI"] {
            assert!(!mistake.message.contains(rule), "{}: {}", mistake.heading, mistake.message);
        }
    }
}
