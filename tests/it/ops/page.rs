//! Pages under `tests/ops`: explanation with fenced blocks `graph`, `values` and `expect` that make up cases.
//!
//! A case begins with its `graph` (`graph by-hand` takes its gradients from `expect` alone). `values` gives
//! `NAME = numbers` or `NAME = random LOW HIGH` by parameter or input; `expect` gives `OUTPUT = numbers` and
//! `grad PARAMETER = numbers`, the gradient of the graph's total, or else of the sum of its outputs. Brackets and commas
//! are for the reader only.

use cmae::graph::text;

use super::case::{Case, Values, flat, on_each, run};

/// One case and the lines of its `expect` block.
pub struct PageCase {
    pub case: Case,
    pub expect: Vec<(String, Vec<f64>)>,
    /// Lines of the page that the block's content stands on.
    pub expect_lines: std::ops::Range<usize>,
}

/// An output, or a gradient under the name `grad PATH`.
struct Found {
    name: String,
    values: Vec<f64>,
    shape: Vec<usize>,
}

/// Numbers in pages have ten digits; 1e-9 leaves the last to rounding.
const TOLERANCE: f64 = 1e-9;

pub fn parse(name: &str, page: &str) -> Result<Vec<PageCase>, String> {
    let lines: Vec<&str> = page.lines().collect();
    let (mut cases, mut heading, mut at) = (Vec::<PageCase>::new(), name.to_owned(), 0);
    while at < lines.len() {
        if let Some(title) = lines[at].strip_prefix("## ") {
            heading = title.to_owned();
        }
        let Some(info) = lines[at].strip_prefix("```") else {
            at += 1;
            continue;
        };
        let start = at + 1;
        let end = (start..lines.len()).find(|i| lines[*i] == "```").ok_or(format!("{name}: a block is not closed"))?;
        let place = |message: String| format!("{name}:{}: {message}", start + 1);
        let body = &lines[start..end];
        match (info, cases.last_mut()) {
            ("graph" | "graph by-hand", _) => {
                let graph = text::parse(&body.join("\n")).map_err(place)?;
                let title = format!("{name}, {heading}");
                let case = Case { title, graph, values: Vec::new(), by_hand: info != "graph" };
                cases.push(PageCase { case, expect: Vec::new(), expect_lines: 0..0 });
            }
            ("values", Some(last)) => {
                for (name, text) in definitions(body).map_err(place)? {
                    last.case.values.push((name, values(&text).map_err(place)?));
                }
            }
            ("expect", Some(last)) => {
                last.expect_lines = start..end;
                for (name, text) in definitions(body).map_err(place)? {
                    last.expect.push((name, numbers(&text).map_err(place)?));
                }
            }
            _ => return Err(place(format!("`{info}` is no block of a page, or stands before its graph"))),
        }
        at = end + 1;
    }
    Ok(cases)
}

/// `NAME = text`, where the text may go on over lines that have no `=`.
fn definitions(body: &[&str]) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in body.iter().filter(|line| !line.trim().is_empty()) {
        match (line.split_once('='), found.last_mut()) {
            (Some((name, text)), _) => found.push((name.trim().to_owned(), text.to_owned())),
            (None, Some((_, text))) => text.push_str(&format!(" {line}")),
            (None, None) => return Err(format!("`{line}` defines nothing")),
        }
    }
    Ok(found)
}

fn values(text: &str) -> Result<Values, String> {
    match text.trim().strip_prefix("random ") {
        Some(range) => match numbers(range)?.as_slice() {
            [low, high] => Ok(Values::Random(*low, *high)),
            _ => Err(format!("`{range}` is no range of two numbers")),
        },
        None => numbers(text).map(Values::Given),
    }
}

fn numbers(text: &str) -> Result<Vec<f64>, String> {
    let words = text.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|w| !w.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("`{word}` is no number"))).collect()
}

impl PageCase {
    /// What the backend finds for each name of `expect`.
    fn found(&self) -> Result<Vec<Found>, String> {
        let (graph, layout) = self.case.with_total(false);
        let results = run::<f64>(&graph, &layout, &self.case.arena(&layout, false), &self.case.inputs(&graph))?;
        let one = |name: &String| match name.strip_prefix("grad ") {
            Some(path) => {
                let index = layout.index(path).ok_or(format!("there is no parameter `{path}`"))?;
                let gradient = results.gradients[layout.range(index)].to_vec();
                let shape = layout.tensors[index].shape.clone();
                Ok(Found { name: name.clone(), values: gradient, shape })
            }
            None => {
                let at = graph.outputs.iter().position(|(n, _)| n == name);
                let at = at.ok_or(format!("there is no output `{name}`"))?;
                let shape = graph.node(graph.outputs[at].1).ty.shape.clone();
                Ok(Found { name: name.clone(), values: flat(&results.outputs[at]), shape })
            }
        };
        self.expect.iter().map(|(name, _)| one(name)).collect()
    }

    /// Faults of the written values on any backend; those of gradients and precisions come from the case itself.
    pub fn faults(&self) -> Vec<String> {
        let faults = on_each(|| match self.found() {
            Ok(found) => self.unexpected(&found),
            Err(error) => vec![error],
        });
        faults.iter().map(|fault| format!("{}: {fault}", self.case.title)).collect()
    }

    fn unexpected(&self, found: &[Found]) -> Vec<String> {
        let mut faults = Vec::new();
        for ((name, expected), Found { values: found, .. }) in self.expect.iter().zip(found) {
            let same = |a: &f64, b: &f64| {
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(1.0)
            };
            if expected.len() != found.len() || !expected.iter().zip(found).all(|(a, b)| same(a, b)) {
                faults.push(format!("{name} is {found:?}, expected {expected:?}"));
            }
        }
        faults
    }

    /// The `expect` block's lines as the backend has them: one line for each row.
    pub fn rewritten(&self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for Found { name, values, shape } in self.found()? {
            let width = shape.last().copied().unwrap_or(1).max(1);
            let row = |row: &[f64]| format!("[{}]", row.iter().map(|v| digits(*v)).collect::<Vec<_>>().join(", "));
            let rows: Vec<String> = values.chunks(width).map(row).collect();
            lines.push(format!("{name} = {}", rows.join(&format!("\n{}", " ".repeat(name.len() + 3)))));
        }
        Ok(lines)
    }
}

/// Ten digits after the point, without trailing zeros; zero has no sign.
fn digits(value: f64) -> String {
    let text = format!("{value:.10}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        _ if !value.is_finite() => text,
        "-0" | "" => "0".to_owned(),
        short => short.to_owned(),
    }
}
