//! What to say of a name, field or argument that is not known: where what is meant stands, or what it is called here.
//!
//! Before: a look-up that found nothing. After: a diagnostic whose help line mends it.
//!
//! **Invariant:** nothing is guessed before what is sure: a definition below, a field one level down, a known foreign name and an
//! item of the library come before names that are merely near.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, listed, nearest};
use crate::source::{Sources, Span};
use crate::syntax::ast::{Entry, Expr, ExprKind, Name, Pipeline, SectionKind};

use super::scope::Scope;
use super::slots::LAST_AXIS;
use super::value::{Kind, Value};
use super::{Machine, builtin, foreign};

/// A definition of the pipeline: its section, where it is one's field (`data.train`, `online.query`), and its name.
pub(super) struct Defined {
    section: Option<String>,
    name: Name,
    /// A definition of `model`.
    module: bool,
}

impl Defined {
    fn path(&self) -> String {
        match &self.section {
            Some(section) => format!("{section}.{}", self.name.text),
            None => self.name.text.to_string(),
        }
    }
}

/// Everything that a pipeline defines.
pub(super) fn outline(pipeline: &Pipeline) -> Vec<Defined> {
    let mut defined: Vec<Defined> =
        pipeline.params.iter().map(|(name, _)| Defined { section: None, name: name.clone(), module: false }).collect();
    for section in &pipeline.sections {
        let word = match &section.kind {
            SectionKind::Data => Some("data".to_owned()),
            SectionKind::Views => Some("views".to_owned()),
            SectionKind::Branch(name, looped) => {
                defined.push(Defined { section: None, name: name.clone(), module: false });
                Some(if looped.is_some() { format!("{}[0]", name.text) } else { name.text.to_string() })
            }
            SectionKind::Model | SectionKind::Losses | SectionKind::Monitor | SectionKind::Evaluate => None,
            SectionKind::Train | SectionKind::Export => continue,
        };
        let names = section.entries.iter().filter_map(|entry| match entry {
            Entry::Binding(binding) => Some(binding.name.clone()),
            _ => None,
        });
        let module = section.kind == SectionKind::Model;
        defined.extend(names.map(|name| Defined { section: word.clone(), name, module }));
    }
    defined
}

impl Machine<'_> {
    /// A name that means nothing where it stands.
    pub(super) fn unknown_name(&mut self, name: &Name, scope: &Rc<Scope>) -> Diagnostic {
        let text = &*name.text;
        if let Some(gone) = self.taken_away(text, name.span, Code::UnknownName) {
            return gone;
        }
        let diagnostic =
            Diagnostic::new(Code::UnknownName, format!("`{text}` is not known here")).label(name.span, "not known");
        let same: Vec<&Defined> = self.outline.iter().filter(|defined| *defined.name.text == *text).collect();
        // What is seen by its bare name, but below.
        let below = |defined: &&&Defined| {
            defined.name.span.source == name.span.source
                && defined.name.span.start > name.span.start
                && (defined.section.is_none() || self.in_one_section(name.span, defined.name.span))
        };
        if let Some(defined) = same.iter().find(below) {
            return diagnostic
                .label(defined.name.span, "defined here, below")
                .help(format!("move the definition of `{text}` above the line that reads it"));
        }
        let itself = |defined: &&Defined| {
            defined.section.is_some()
                && defined.name.span.source == name.span.source
                && defined.name.span.start < name.span.start
                && self.in_one_section(defined.name.span, name.span)
        };
        if let Some(defined) = same.iter().copied().find(itself) {
            return diagnostic
                .label(defined.name.span, "this line is its definition")
                .help("a definition sees those above it: read another name, or give this one another");
        }
        let fields: Vec<String> = same.iter().filter(|defined| defined.section.is_some()).map(|d| d.path()).collect();
        if !fields.is_empty() {
            let ways: Vec<String> = fields.iter().map(|path| format!("`{path}`")).collect();
            return diagnostic.help(format!("write {}", ways.join(" or ")));
        }
        if let Some(near) = self.called_otherwise(text, scope) {
            return diagnostic.help(format!("did you mean `{near}`?"));
        }
        let op = || self.op_named(text);
        if let Some(help) = foreign::answer(text).or_else(op) {
            return diagnostic.help(help);
        }
        let mut known = self.file_names(scope.file);
        known.extend(self.ambient.keys().map(|n| n.to_string()));
        known.extend(builtin::names().map(str::to_owned));
        // Those that are seen from here go by their bare names already.
        let paths: Vec<&Defined> = self.outline.iter().filter(|defined| defined.section.is_some()).collect();
        let here = scope.visible();
        // What is defined in the same place is nearer than what every file sees.
        let own = nearest(text, here.iter().map(String::as_str));
        let plain = own.or_else(|| nearest(text, known.iter().map(String::as_str))).map(str::to_owned);
        let field = || nearest(text, paths.iter().map(|d| &*d.name.text)).map(str::to_owned);
        let of_field = |near: String| paths.iter().find(|d| *d.name.text == *near).map(|defined| defined.path());
        let of_op = || nearest(text, self.tensors.op_names()).map(|op| format!("op::{op}"));
        let of_std = || {
            let item = nearest(text, Sources::stdlib_items())?;
            Some(item.to_owned())
        };
        let modules = || {
            let modules = self.outline.iter().filter(|d| d.module && scope.get(&d.name.text).is_some());
            let modules: Vec<&str> = modules.map(|d| &*d.name.text).collect();
            (1..=12).contains(&modules.len()).then(|| format!("`model` has {}", listed(&modules)))
        };
        let around = || {
            let mut here = here.clone();
            here.sort_unstable();
            here.dedup();
            (1..=12).contains(&here.len()).then(|| format!("there is {}", listed(&here)))
        };
        let found = plain.or_else(|| field().and_then(of_field)).or_else(of_std).or_else(of_op);
        diagnostic.maybe_help(found.map(|found| format!("did you mean `{found}`?")).or_else(modules).or_else(around))
    }

    /// `path` is read where a variant has taken it away.
    pub(super) fn taken_away(&self, path: &str, read: Span, code: Code) -> Option<Diagnostic> {
        let is_it = |removed: &&Vec<Name>| removed.iter().map(|name| &*name.text).eq(path.split('.'));
        let removed = self.removed.iter().find(is_it)?.last()?;
        Some(
            Diagnostic::new(code, format!("`{path}` is taken away, and still read"))
                .label(removed.span, "taken away here")
                .label(read, "read here")
                .help("take away what reads it too, or give that another value"),
        )
    }

    /// What goes by `text` elsewhere, where the same is seen from here: `tau` and `temperature`.
    fn called_otherwise(&self, text: &str, scope: &Rc<Scope>) -> Option<String> {
        let visible = scope.visible();
        foreign::argument(text, &visible.iter().map(String::as_str).collect::<Vec<_>>()).map(str::to_owned)
    }

    /// Whether two places stand in one section of a pipeline, whose definitions see those above them.
    fn in_one_section(&self, a: Span, b: Span) -> bool {
        let text = &self.sources.get(a.source).text;
        let (start, end) = (a.start.min(b.start) as usize, a.start.max(b.start) as usize);
        // A section's closing bracket stands between them otherwise.
        let between = text.get(start..end).unwrap_or_default();
        let mut depth = 0_i32;
        between.chars().all(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth >= 0
        })
    }

    /// `op::NAME`, where there is one of that name.
    fn op_named(&self, name: &str) -> Option<String> {
        let ops = self.tensors.op_names();
        if ops.is_empty() || !ops.contains(&name) {
            return None;
        }
        let params = self.tensors.signature(name).unwrap_or_default();
        let needed: Vec<&str> = params.iter().copied().filter(|p| !p.ends_with('?')).collect();
        let along = if LAST_AXIS.contains(&name) { ", which works along the last axis" } else { "" };
        Some(format!("write `op::{name}({})`{along}", needed.join(", ")))
    }

    /// `a::b` in an expression, where only `op::NAME` has a place.
    pub(super) fn unknown_path(&mut self, path: &[&str], span: Span) -> Diagnostic {
        let last = path.last().copied().unwrap_or_default();
        let diagnostic = Diagnostic::new(Code::UnknownName, format!("`{}` is not known here", path.join("::")))
            .label(span, "a path");
        let home = Sources::stdlib_home(last).map(|_| format!("write `{last}`"));
        let imported = || match path {
            ["std", ..] => None,
            [file, _] => Some(format!("import it: `use {file}::{last}`, then write `{last}`")),
            _ => None,
        };
        diagnostic.maybe_help(home.or_else(|| foreign::answer(last)).or_else(imported))
    }

    /// `torch.cat`, `F.softmax`, `nn.Linear`, `std.masks`: a module of Python, by its usual names, or a path with the wrong sign.
    pub(super) fn foreign_path(&mut self, base: &Expr, name: &Name, scope: &Rc<Scope>) -> Option<Diagnostic> {
        const MODULES: &[&str] = &[
            "torch",
            "F",
            "nn",
            "np",
            "numpy",
            "jnp",
            "jax",
            "tf",
            "optim",
            "transforms",
            "T",
            "torchvision",
            "timm",
            "datasets",
            "lr_scheduler",
            "einops",
            "math",
            "functional",
            "linalg",
            "random",
            "init",
            "std",
            "op",
            "keras",
            "optax",
        ];
        if let Some(own) = self.own_field(base, name, scope) {
            return Some(own);
        }
        let mut root = base;
        while let ExprKind::Field(inner, _) = &root.kind {
            root = inner;
        }
        let ExprKind::Path(names) = &root.kind else { return None };
        let [first] = names.as_slice() else { return None };
        if !MODULES.contains(&&*first.text) || self.is_known(first, scope) {
            return None;
        }
        let (text, span) = (self.sources.slice(base.span).to_owned(), Span { end: name.span.end, ..base.span });
        let item = &*name.text;
        let diagnostic = Diagnostic::new(Code::UnknownName, format!("`{text}.{item}` is not known here"))
            .label(span, "not of this language");
        let home = || Sources::stdlib_home(item).map(|_| format!("write `{item}`"));
        let near_op = || Some(format!("did you mean `op::{}`?", nearest(item, self.tensors.op_names())?));
        let builtin = || builtin::names().any(|known| known == item).then(|| format!("write `{item}`"));
        let help = match &*first.text {
            "op" => self.op_named(item).or_else(near_op),
            _ => foreign::answer(item).or_else(|| self.op_named(item)).or_else(home).or_else(builtin).or_else(near_op),
        };
        let spoken =
            || "operations are `op::NAME(…)`, and what the library has goes by its own name: `info_nce(…)`".to_owned();
        Some(diagnostic.help(help.unwrap_or_else(spoken)))
    }

    /// `online.latent` within the branch `online`, `model.encoder`, `self.encoder`: what is seen by its bare name; and a field of
    /// a branch that comes below.
    fn own_field(&self, base: &Expr, name: &Name, scope: &Rc<Scope>) -> Option<Diagnostic> {
        let ExprKind::Path(names) = &base.kind else { return None };
        let [first] = names.as_slice() else { return None };
        if self.is_known(first, scope) {
            return None;
        }
        let (of, field) = (&first.text, &name.text);
        let diagnostic =
            Diagnostic::new(Code::UnknownName, format!("`{of}` is not known here")).label(first.span, "not known");
        let holder = ["self", "model", "losses", "monitor", "evaluate", "params", "args", "cfg", "config"]
            .contains(&&**of)
            || self
                .outline
                .iter()
                .any(|d| d.section.as_deref().is_some_and(|section| section.split('[').next() == Some(of)));
        if holder && matches!(scope.get(field), Some(value) if !matches!(value.kind, Kind::Poison)) {
            return Some(diagnostic.help(format!("write `{field}`: here it goes by its own name")));
        }
        let branch = self.outline.iter().find(|d| d.section.is_none() && d.name.text == *of && !d.module)?;
        let has = self.outline.iter().any(|d| d.section.as_deref() == Some(of) && d.name.text == *field);
        let below = branch.name.span.source == first.span.source && branch.name.span.start > first.span.start;
        (has && below).then(|| {
            let labelled = diagnostic.label(branch.name.span, "this branch comes below");
            labelled.help(format!("move `branch {of}` above the line that reads it"))
        })
    }

    /// What to write for `base.name`, where there is no such field.
    pub(super) fn field_help(&self, base: &Value, name: &str, known: &[String]) -> Option<String> {
        if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
            return Some(format!("did you mean `{near}`?"));
        }
        if let Kind::Record(_) = base.kind {
            let text = self.sources.slice(base.span);
            if self.emas.iter().any(|ema| ema.name == text)
                && self.outline.iter().any(|d| d.module && *d.name.text == *name)
            {
                return Some(format!("name it in the call too: `{text} = ema({}, {name}, …)`", known.join(", ")));
            }
            let elsewhere = self.outline.iter().filter(|defined| *defined.name.text == *name);
            let paths: Vec<String> = elsewhere.map(|defined| format!("`{}`", defined.path())).collect();
            if !paths.is_empty() {
                return Some(format!("write {}; here there is {}", paths.join(" or "), listed(known)));
            }
        }
        let text = self.sources.slice(base.span);
        match &base.kind {
            Kind::List(items) => {
                let has = items.first().is_some_and(|item| match &item.kind {
                    Kind::Record(fields) => fields.iter().any(|(field, _)| &**field == name),
                    _ => false,
                });
                let of = if text.is_empty() || text.contains(char::is_whitespace) { "list" } else { text };
                if has {
                    return Some(format!("take one of its items: `{of}[0].{name}`, or all: `x.{name} for x in {of}`"));
                }
                foreign::answer(name).or_else(|| Some(format!("a list has `.last` and items by number: `{of}[0]`")))
            }
            Kind::Tensor(_) | Kind::Stored(..) => foreign::answer(name)
                .or_else(|| self.op_named(name))
                .or_else(|| {
                    let near = nearest(name, self.tensors.op_names())?;
                    Some(format!("did you mean `op::{near}(…)`?"))
                })
                .or_else(|| Some("a tensor has no fields: it is computed with by `op::NAME(…)`".into())),
            Kind::Builtin(of) if &**of == "ema" && !self.emas.is_empty() => {
                Some(format!("the copies go by the name of their definition: write `{}.{name}`", self.emas[0].name))
            }
            Kind::View(_) | Kind::Recipe(_) | Kind::Source(_) if builtin::names().any(|known| known == name) => {
                Some(format!("write `|> {name}(…)`"))
            }
            _ => foreign::answer(name).or_else(|| match known.len() {
                1..=12 => {
                    let mut sorted = known.to_vec();
                    sorted.sort_unstable();
                    Some(format!("there is {}", listed(&sorted)))
                }
                _ => None,
            }),
        }
    }
}

/// What to write instead of a call of something that is none.
pub(super) fn uncallable(target: &Value) -> Option<String> {
    Some(match &target.kind {
        Kind::Record(fields) => {
            let names: Vec<String> = fields.iter().map(|(name, _)| format!(".{name}")).collect();
            format!("call one of its fields: {}", listed(&names))
        }
        Kind::Tensor(_) | Kind::View(_) | Kind::Stored(..) => {
            "leave the parentheses out, or write a `*` where a product is meant".into()
        }
        Kind::Int(_) | Kind::Float(_) | Kind::Ratio(_) | Kind::Pixels(_) => {
            format!("write `{target} * (…)` for a product")
        }
        Kind::Source(name) => format!("leave the parentheses out: `data.{name} |> …`"),
        Kind::Recipe(_) => "put it behind a source: `data.train |> …`".into(),
        Kind::List(_) | Kind::Tuple(_) => "write an index in square brackets: `list[0]`".into(),
        Kind::Str(text) => format!("`{text}` is a word that stands for itself: leave the parentheses out"),
        _ => return None,
    })
}
