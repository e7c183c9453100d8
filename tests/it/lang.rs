//! The language: pages of pipelines with what the compiler says of them, and the names that newcomers bring.

use std::path::Path;

use cmae::diag::{Diagnostics, render};
use cmae::elab::{FOREIGN_ARGUMENTS, FOREIGN_NAMES, builtin_names, builtin_parameters};
use cmae::source::Sources;
use cmae::syntax::ast::{Expr, ExprKind, Item};
use cmae::syntax::{parse_expr, parse_file};

use crate::command::root;
use crate::pages::Page;

const PAGES: [&str; 16] = [
    "wrong",
    "evaluate",
    "ranges",
    "masks",
    "library",
    "copies",
    "limits",
    "newcomers",
    "variants",
    "weights",
    "syntax_separators",
    "syntax_brackets",
    "syntax_letters",
    "syntax_statements",
    "syntax_values",
    "syntax_heads",
];

/// A quickstart with lines of it replaced: those that `-` begins by those that `+` begins.
pub fn edited(edit: &str) -> String {
    let quickstart = include_str!("../lang/quickstart.cmae");
    let of = |sign: char| edit.lines().filter_map(|line| line.strip_prefix(sign)).collect::<Vec<_>>().join("\n");
    let (old, new) = (of('-'), of('+'));
    assert!(quickstart.contains(&old), "the quickstart has no `{old}`");
    quickstart.replacen(&old, &new, 1)
}

/// What the compiler says of `text`, as a file beside the shipped pipelines; `None` where it compiles without a word.
fn compile(text: &str) -> Option<String> {
    let mut sources = Sources::new();
    let mut diagnostics = Diagnostics::default();
    sources.add_file("pipelines/example.cmae", text);
    let result = cmae::compile(&mut sources, &mut diagnostics, Path::new("pipelines/example.cmae"), &[]);
    // An error without a message would leave its user with nothing.
    assert_eq!(result.is_err(), diagnostics.has_errors(), "{text}");
    let told = match result {
        Ok(compiled) => compiled.warnings(None),
        Err(_) => diagnostics.list().to_vec(),
    };
    // Whoever reads it finds a place in a file of his own first.
    for diagnostic in &told {
        let first = diagnostic.labels.first().map(|(span, _)| sources.get(span.source));
        assert!(first.is_none_or(|source| !source.library), "{}", render(&told, &sources, false));
    }
    (!told.is_empty()).then(|| render(&told, &sources, false))
}

#[test]
fn pages_of_wrong_pipelines() {
    std::env::set_current_dir(root("")).expect("the repository is there");
    let mut problems = Vec::new();
    for name in PAGES {
        let mut page = Page::read(root(&format!("tests/lang/{name}.md")));
        let mut pipelines = 0;
        for index in 0..page.fences.len() {
            let text = match page.fences[index].info.as_str() {
                "cmae" => page.fences[index].text.clone(),
                "edit" => edited(&page.fences[index].text),
                _ => continue,
            };
            pipelines += 1;
            match compile(&text) {
                Some(drawn) => problems.extend(page.expect(index + 1, drawn.trim_end()).err()),
                None => problems.push(format!("{name}: `{}` compiles", page.fences[index].heading)),
            }
        }
        assert!(pipelines > 0, "{name} shows no pipeline");
        page.finish();
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// Every name on the right of the table exists, with the arguments that stand beside it.
#[test]
fn what_stands_for_a_foreign_name_exists() {
    let mut problems = Vec::new();
    for row in FOREIGN_NAMES {
        let mut sources = Sources::new();
        let mut diagnostics = Diagnostics::default();
        let id = sources.add_text("answer", row.ours);
        let Ok(expr) = parse_expr(&sources, id, &mut diagnostics) else {
            problems.push(format!("{:?}: `{}` is no expression", row.theirs, row.ours));
            continue;
        };
        let mut calls = Vec::new();
        called(&expr, &mut calls);
        for (name, given) in calls {
            match parameters(&name) {
                None => problems.push(format!("{:?}: there is no `{name}`", row.theirs)),
                Some(known) => problems.extend(
                    given
                        .iter()
                        .filter(|argument| !known.contains(argument))
                        .map(|argument| format!("{:?}: `{name}` has no parameter `{argument}`", row.theirs)),
                ),
            }
        }
    }
    let all: Vec<String> = Sources::stdlib_items()
        .chain(builtin_names())
        .chain(cmae::shape::op_names())
        .filter_map(|name| parameters(name).or_else(|| parameters(&format!("op::{name}"))))
        .flatten()
        .chain(settings())
        .collect();
    for (theirs, ours) in FOREIGN_ARGUMENTS {
        problems.extend(
            ours.iter()
                .filter(|name| !all.iter().any(|known| known == *name))
                .map(|name| format!("{theirs}: nothing has `{name}`")),
        );
    }
    // A name stands in one row, and is none of ours.
    let names: Vec<&str> = FOREIGN_NAMES.iter().flat_map(|row| row.theirs).copied().collect();
    problems.extend(
        names
            .iter()
            .filter(|name| names.iter().filter(|other| other == name).count() > 1)
            .map(|name| format!("{name} stands in two rows")),
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Names that an expression calls, with the names of the arguments that it gives.
fn called(expr: &Expr, calls: &mut Vec<(String, Vec<String>)>) {
    match &expr.kind {
        ExprKind::Call(callee, arguments) => {
            if let ExprKind::Path(names) = &callee.kind {
                let path: Vec<&str> = names.iter().map(|name| &*name.text).collect();
                let given =
                    arguments.iter().filter_map(|argument| argument.name.as_ref()).map(|name| name.text.to_string());
                calls.push((path.join("::"), given.collect()));
            }
            arguments.iter().for_each(|argument| called(&argument.value, calls));
        }
        ExprKind::Pipe(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Range(a, b) => {
            called(a, calls);
            called(b, calls);
        }
        ExprKind::Unary(_, a) => called(a, calls),
        ExprKind::Tuple(items) | ExprKind::List(items) => items.iter().for_each(|item| called(item, calls)),
        _ => {}
    }
}

/// Parameters of an op, a block or function of the library, or a builtin; none where there is nothing of that name.
fn parameters(name: &str) -> Option<Vec<String>> {
    let plain = |names: &[&str]| names.iter().map(|name| name.trim_end_matches('?').to_owned()).collect();
    if let Some(op) = name.strip_prefix("op::") {
        return cmae::shape::op_signature(op).map(plain);
    }
    if let Some(known) = builtin_parameters(name) {
        return Some(plain(known));
    }
    let home = Sources::stdlib_home(name)?;
    let text = std::fs::read_to_string(root(&format!("stdlib/{home}.cmae"))).expect("the library is in the repository");
    let mut sources = Sources::new();
    let id = sources.add_text("library", text);
    let file = parse_file(&sources, id, &mut Diagnostics::default()).expect("the library parses");
    file.items.iter().find_map(|item| match item {
        Item::Block(block) if &*block.name.text == name => {
            let params = block.params.iter().chain(&block.forward.params);
            Some(params.map(|param| param.name.text.to_string()).collect())
        }
        Item::Function(function) if &*function.name.text == name => {
            Some(function.params.iter().map(|param| param.name.text.to_string()).collect())
        }
        _ => None,
    })
}

/// Settings of sections, which no call takes.
fn settings() -> Vec<String> {
    let text = [
        "learning_rate",
        "epochs",
        "precision",
        "clip",
        "batch_size",
        "learning_rate_factor",
        "frozen_until",
        "momentum",
        "k",
        "bank",
    ];
    text.map(str::to_owned).to_vec()
}
