//! The layout of `.cmae` files: what it makes of a text, and that nothing that means anything changes.

use std::fs;
use std::path::PathBuf;

use cmae::diag::{Diagnostics, render};
use cmae::format::format;
use cmae::source::Sources;
use cmae::syntax::token::{Kind, tokens};

use crate::command::{fail, root, succeed};
use crate::pages::Page;
use crate::runs::text;

/// All files of the language that the repository holds.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["pipelines", "pipelines/bench", "stdlib", "tests/it", "tests/golden"] {
        let entries = fs::read_dir(root(folder)).expect("it is in the repository");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "cmae")));
    }
    files.sort_unstable();
    assert!(files.len() > 55, "{}", files.len());
    files
}

/// Tokens, and of brackets and dots whether they follow their operand at once; then comments.
fn meaning(text: &str) -> (Vec<(&str, bool)>, Vec<&str>) {
    let tokens = tokens(text);
    let (mut found, mut comments, mut end, mut before) = (Vec::new(), Vec::new(), 0, Kind::End);
    for token in &tokens {
        for line in text[end..token.start].lines() {
            comments.extend(line.find("//").map(|at| line[at..].trim_end()));
        }
        if token.kind != Kind::End {
            let word = &text[token.range()];
            let follows = matches!(before, Kind::Name | Kind::Number | Kind::Text | Kind::Close);
            found.push((word, follows && end == token.start && matches!(word, "(" | "[" | ".")));
        }
        (end, before) = (token.end, token.kind);
    }
    (found, comments)
}

#[test]
fn what_is_shipped_is_laid_out() {
    for path in files() {
        let text = fs::read_to_string(&path).expect("it can be read");
        assert!(format(&text) == text, "cmaec fmt {}", path.display());
    }
}

#[test]
fn pages_of_layouts() {
    let mut page = Page::read(root("tests/format.md"));
    let mut problems = Vec::new();
    for index in (0..page.fences.len()).step_by(2) {
        let before = page.fences[index].text.clone();
        let mut sources = Sources::new();
        let id = sources.add_text("page", before.as_str());
        let mut diagnostics = Diagnostics::default();
        let parsed = cmae::syntax::parse_file(&sources, id, &mut diagnostics);
        assert!(parsed.is_ok(), "{}", render(diagnostics.list(), &sources, false));
        let after = format(&before);
        assert_eq!(meaning(&before), meaning(&after));
        assert_eq!(format(&after), after);
        problems.extend(page.expect(index + 1, &after).err());
    }
    page.finish();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// White space that is drawn: a million by `CMAE_LAYOUTS=1000000`.
#[test]
fn any_white_space_means_the_same() {
    let texts: Vec<String> = files().iter().map(|path| fs::read_to_string(path).expect("it can be read")).collect();
    let count = std::env::var("CMAE_LAYOUTS").map_or(400, |text| text.parse().expect("it is a number"));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |most: usize| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % most
    };
    for _ in 0..count {
        let text = &texts[below(texts.len())];
        let (mut drawn, mut end) = (String::new(), 0);
        let seldom = 1 + below(30);
        for token in tokens(text) {
            let gap = &text[end..token.start];
            // A line's end ends a comment, and nothing is no white space.
            let kept = gap.contains("//") || gap.is_empty() || below(seldom) > 0;
            drawn += match below(6) {
                _ if kept => gap,
                0 => "\n",
                1 => "   ",
                2 => "\r\n\n\n  ",
                3 => "\t",
                4 => "  \n\t",
                _ => " ",
            };
            drawn += &text[token.range()];
            end = token.end;
        }
        let once = format(&drawn);
        assert_eq!(meaning(&drawn), meaning(&once), "{drawn}");
        assert!(format(&once) == once, "not to itself:\n{drawn}");
    }
}

/// Nothing in it looks back over the whole file for each line: such a text would take an hour.
#[test]
fn long_files_are_laid_out_as_any() {
    let comments = format!("{}pipeline x {{}}\n", "// a\n".repeat(200_000));
    assert!(format(&comments) == comments);
    let chain = format!("pipeline x {{\n  views {{\n    a = b\n{}  }}\n}}\n", "      |> c\n".repeat(50_000));
    let laid_out = format(&chain);
    assert!(meaning(&laid_out) == meaning(&chain) && format(&laid_out) == laid_out);
}

#[test]
fn files_and_folders_are_written_and_checked() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("inner")).expect("it can be made");
    let good = "use pipeline quickstart\n\npipeline mine = quickstart with { train.epochs = 3 }\n";
    fs::write(path("a.cmae"), "use pipeline quickstart\n\n\npipeline mine=quickstart with {train.epochs=3}")
        .expect("x");
    fs::write(path("inner/b.cmae"), good).expect("it can be written");
    let told = fail(&["fmt", "--check", text(place.path())]);
    assert!(told.contains("1 of 2 files would be laid out anew"), "{told}");
    assert!(succeed(&["fmt", text(place.path())]).contains("a.cmae"));
    assert_eq!(fs::read_to_string(path("a.cmae")).expect("it is there"), good);
    assert_eq!(succeed(&["fmt", "--check", text(place.path())]), "");
    // What does not parse is told, and left as it is.
    let broken = "pipeline mine {\n  train { epochs = }\n}\n";
    fs::write(path("broken.cmae"), broken).expect("it can be written");
    let told = fail(&["fmt", text(place.path())]);
    assert!(told.contains("syntax"), "{told}");
    assert_eq!(fs::read_to_string(path("broken.cmae")).expect("it is there"), broken);
}
