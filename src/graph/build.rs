//! Lowers the typed pipeline to a [`Program`]: a graph a mode, holding what its results need, and one layout for all.
//!
//! Before: `shape`. After: `verify` has checked the result.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Code, Diagnostic, Diagnostics, Reported};
use crate::elab::Stored;
use crate::op::Op;
use crate::shape::{Typed, TypedInitial, Typing};
use crate::source::Span;
use crate::spec::{ImportSpec, ParameterRule, Selector, Spec};

use super::accumulate::{Coupling, SplitError};
use super::step::NoStep;
use super::{
    Fault, Graph, Init, Initial, Layout, Node, Program, TensorDecl, TensorKind, ValueId, outlook, prune, share, verify,
};

/// A program, and the places that errors at run time point to.
pub struct Compiled {
    pub program: Program,
    /// Data sources by name.
    pub source_spans: Vec<(String, Span)>,
    /// Places of settings, by the names that [`outlook::Remark`] gives them.
    places: Vec<(String, Span)>,
    /// What was told while it was compiled.
    warnings: Vec<Diagnostic>,
}

impl Compiled {
    /// Where what goes by `name` was written, such as `model.encoder`.
    pub fn place(&self, name: &str) -> Option<Span> {
        self.places.iter().find(|(other, _)| other == name).map(|(_, span)| *span)
    }

    /// All warnings of a run on `pictures` pictures; without a count those that need none.
    pub fn warnings(&self, pictures: Option<usize>) -> Vec<Diagnostic> {
        let remarks = outlook::outlook(&self.program, pictures).into_iter().map(|remark| {
            let diagnostic = Diagnostic::new(remark.code, remark.message).help(remark.help);
            match self.places.iter().find(|(name, _)| *name == remark.place) {
                Some((_, span)) => diagnostic.label(*span, "set here"),
                None => diagnostic,
            }
        });
        self.warnings.iter().cloned().chain(remarks).collect()
    }
}

/// Makes the graphs and checks what can only be seen in the whole.
pub fn build(typed: Typed, diagnostics: &mut Diagnostics) -> Result<Compiled, Reported> {
    let reached = reached_tensors(&typed.train);
    check_losses(&typed, diagnostics);
    // What a loss that trains nothing was to reach, nothing does.
    if !diagnostics.has_errors() {
        check_modules(&typed, &reached, diagnostics);
    }
    check_rules(&typed, diagnostics);
    check_shadowed(&typed, diagnostics);
    if diagnostics.has_errors() {
        return Err(Reported);
    }
    let roots = |names: &dyn Fn(&str) -> bool| -> Vec<(String, u32)> {
        typed.eval.outputs.iter().filter(|(name, _)| names(name)).cloned().collect()
    };
    let features = roots(&|name| name == "features" || name.starts_with("evaluate."));
    let pictures = roots(&|name| ["original", "masked", "reconstructed"].contains(&name));
    let train = lower(&typed.train, &typed.train.outputs, true);
    let is_judged = features.iter().any(|(n, _)| n == "features") || !typed.spec.evaluate.segmentations.is_empty();
    let features = is_judged.then(|| lower(&typed.eval, &features, false));
    let pictures = (!pictures.is_empty()).then(|| lower(&typed.eval, &pictures, false));
    let mut spec = typed.spec;
    let graphs = [Some(&train), features.as_ref(), pictures.as_ref()];
    let stored = used_tensors(&typed.stored, &mut spec.imports, graphs.into_iter().flatten());
    if let Err(fault) = verify::tensors(&stored, &typed.emas) {
        diagnostics.push(internal(&fault));
        return Err(Reported);
    }
    let program = Program {
        layout: Layout::new(stored),
        emas: typed.emas,
        train,
        features,
        pictures,
        spec,
        ranks: 1,
        sharded: false,
    };
    for graph in [Some(&program.train), program.features.as_ref(), program.pictures.as_ref()].into_iter().flatten() {
        if let Err(fault) = verify::passed("the compiler", graph, &program.layout) {
            diagnostics.push(internal(&fault));
            return Err(Reported);
        }
    }
    let cut = match program.step(&[]) {
        Ok(_) => None,
        Err(NoStep::Split(SplitError::Coupled(coupling))) => {
            let at = typed.setting_spans.iter().find(|(name, _)| name == "micro_batch");
            let (_, at) = at.expect("a batch is cut where somebody has written so");
            Some(coupled_encoder(&coupling, &program.spec, *at, &typed.modules))
        }
        Err(NoStep::Split(SplitError::Fault(fault)) | NoStep::Spread(fault)) => Some(internal(&fault)),
        Err(NoStep::Uneven(_)) => unreachable!("one rank has the whole batch, and its setting divides it"),
        Err(NoStep::UnknownOutput(_)) => unreachable!("it is asked for none"),
    };
    if let Some(diagnostic) = cut {
        diagnostics.push(diagnostic);
        return Err(Reported);
    }
    let named = |prefix: &str, spans: &[(String, Span)]| -> Vec<(String, Span)> {
        spans.iter().map(|(name, span)| (format!("{prefix}{name}"), *span)).collect()
    };
    let rules = typed.rule_spans.iter().enumerate().map(|(index, span)| (format!("train.parameters.{index}"), *span));
    let places = [
        named("data.", &typed.source_spans),
        named("train.", &typed.setting_spans),
        named("model.", &typed.modules),
        rules.collect(),
        typed.train.trace.places,
    ];
    Ok(Compiled {
        program,
        source_spans: typed.source_spans,
        places: places.concat(),
        warnings: diagnostics.warnings(),
    })
}

/// A graph that fails its own verifier is a fault of the compiler, never of the file.
fn internal(fault: &Fault) -> Diagnostic {
    Diagnostic::new(Code::Internal, fault.to_string())
        .help("report it with the pipeline's file: cmaec explain graph::internal")
}

fn coupled_encoder(coupling: &Coupling, spec: &Spec, at: Span, modules: &[(String, Span)]) -> Diagnostic {
    let Coupling { op, scope, encoder_op, .. } = coupling;
    let (micro_batch, count) = (spec.micro_batch(), spec.micro_batches());
    let diagnostic = Diagnostic::new(Code::CoupledEncoder, coupling.to_string())
        .label(at, format!("{count} micro-batches of {micro_batch} cannot be encoded one by one"));
    let within = |name: &str| scope.split('.').any(|part| part == name);
    let diagnostic = match modules.iter().find(|(name, _)| within(name)) {
        Some((name, span)) => diagnostic.label(*span, format!("`{op}` stands in `{name}`")),
        None => diagnostic,
    };
    diagnostic.help(format!(
        "write `micro_batch = {}` if memory allows, or keep samples apart before `{encoder_op}`",
        spec.data.batch_size
    ))
}

/// All declared tensors but those of imported modules that no graph reads; imports of which nothing is left go too.
fn used_tensors<'g>(
    stored: &[Stored],
    imports: &mut Vec<ImportSpec>,
    graphs: impl Iterator<Item = &'g Graph>,
) -> Vec<TensorDecl> {
    let read: BTreeSet<&str> = graphs
        .flat_map(|graph| &graph.nodes)
        .filter_map(|node| match &node.op {
            Op::Param { path } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    let within = |path: &str, alias: &str| path.strip_prefix(alias).is_some_and(|rest| rest.starts_with('.'));
    let unused = |path: &str| !read.contains(path) && imports.iter().any(|import| within(path, &import.alias));
    let kept: Vec<TensorDecl> = stored.iter().filter(|s| !unused(&s.decl.path)).map(|s| s.decl.clone()).collect();
    let comes_from =
        |alias: &str| kept.iter().any(|decl| matches!(&decl.init, Init::Imported { import, .. } if import == alias));
    imports.retain(|import| comes_from(&import.alias));
    kept
}

/// The graph of what `outputs` and, in training, losses, monitors and updates need.
fn lower(typing: &Typing, outputs: &[(String, u32)], training: bool) -> Graph {
    let trace = &typing.trace;
    let id = |id: &u32| ValueId(*id);
    let named = |list: &[(String, u32)]| list.iter().map(|(name, i)| (name.clone(), id(i))).collect();
    let nodes = trace.nodes.iter().map(|node| Node {
        op: node.op.clone(),
        inputs: node.inputs.iter().map(id).collect(),
        ty: node.ty.clone(),
        scope: node.scope.clone(),
    });
    let mut graph = Graph { nodes: nodes.collect(), inputs: trace.inputs.clone(), ..Graph::default() };
    graph.outputs = named(outputs);
    if training {
        graph.losses = typing.losses.iter().map(|(name, i, _)| (name.clone(), id(i))).collect();
        graph.total = typing.total.as_ref().map(id);
        graph.monitors = named(&typing.monitors);
        let initial = |i: &TypedInitial| Initial { path: i.path.clone(), value: id(&i.value), rounds: i.rounds };
        graph.initial = trace.initial.iter().map(initial).collect();
        graph.updates = named(&trace.updates);
    }
    prune::prune(&share::share(&graph))
}

/// Paths of the tensors that a gradient flows to from each value in `roots`.
fn gradient_reach(typing: &Typing, roots: &[u32]) -> BTreeSet<String> {
    let nodes = &typing.trace.nodes;
    let mut reached = vec![false; nodes.len()];
    for root in roots {
        reached[*root as usize] = true;
    }
    let mut paths = BTreeSet::new();
    for id in (0..nodes.len()).rev() {
        if !reached[id] {
            continue;
        }
        if let Op::Param { path } = &nodes[id].op {
            paths.insert(path.clone());
        }
        if nodes[id].op.is_differentiable() {
            nodes[id].inputs.iter().for_each(|i| reached[*i as usize] = true);
        }
    }
    paths
}

fn reached_tensors(typing: &Typing) -> BTreeSet<String> {
    gradient_reach(typing, &typing.total.into_iter().collect::<Vec<_>>())
}

fn check_losses(typed: &Typed, diagnostics: &mut Diagnostics) {
    let trained: BTreeSet<&str> =
        typed.stored.iter().filter(|s| s.decl.kind == TensorKind::Trained).map(|s| s.decl.path.as_str()).collect();
    for (name, id, span) in &typed.train.losses {
        let reached = gradient_reach(&typed.train, &[*id]);
        if !reached.iter().any(|path| trained.contains(path.as_str())) {
            let copies = typed.stored.iter().any(|s| s.decl.kind == TensorKind::Ema && reached.contains(&s.decl.path));
            let (why, help) = if copies {
                (
                    "it depends on averaged copies only, which have no gradient",
                    "let it take a value of a trained branch",
                )
            } else {
                ("no gradient reaches a trained parameter", "let it take a value that is not stopped")
            };
            diagnostics.push(
                Diagnostic::new(Code::NothingTrained, format!("the loss `{name}` trains nothing"))
                    .label(*span, why)
                    .help(help),
            );
        }
    }
}

/// Every definition of `model` with trained parameters is reached by a loss.
fn check_modules(typed: &Typed, reached: &BTreeSet<String>, diagnostics: &mut Diagnostics) {
    let mut by_module: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for stored in typed.stored.iter().filter(|s| s.decl.kind == TensorKind::Trained) {
        let path = &stored.decl.path;
        let counts = by_module.entry(path.split('.').next().unwrap_or(path)).or_default();
        counts.0 += 1;
        counts.1 += usize::from(reached.contains(path));
    }
    for (name, span) in &typed.modules {
        if let Some((total, some)) = by_module.get(name.as_str()).filter(|(total, some)| *some > 0 && some < total) {
            let without = typed.stored.iter().map(|s| &s.decl).filter(|decl| {
                decl.kind == TensorKind::Trained
                    && decl.path.split('.').next() == Some(name)
                    && !reached.contains(&decl.path)
            });
            let without: Vec<&str> = without.map(|decl| decl.path.as_str()).collect();
            let more = if without.len() > 3 { format!(" and {} more", without.len() - 3) } else { String::new() };
            let message = format!("no loss reaches {} of the {total} trained tensors of `{name}`", total - some);
            diagnostics.push(
                Diagnostic::new(Code::NoGradient, message)
                    .label(*span, format!("{}{more}", without[..without.len().min(3)].join(", ")))
                    .help("let a loss take what they compute, or leave them out by the block's arguments"),
            );
        }
        if let Some((total, 0)) = by_module.get(name.as_str()) {
            diagnostics.push(
                Diagnostic::new(Code::NothingTrained, format!("no loss reaches the module `{name}`"))
                    .label(*span, format!("{total} trained tensors get no gradient"))
                    .help("use it in a branch that a loss takes, or remove it"),
            );
        }
    }
}

/// Warns of rules all of whose settings an earlier rule makes, for each tensor that they match.
fn check_shadowed(typed: &Typed, diagnostics: &mut Diagnostics) {
    let sets = |rule: &ParameterRule| {
        [
            rule.weight_decay.is_some(),
            rule.learning_rate.is_some(),
            rule.learning_rate_factor.is_some(),
            rule.adaptation.is_some(),
            rule.frozen_until.is_some(),
        ]
    };
    let rules: Vec<(&ParameterRule, Span)> =
        typed.spec.train.rules.iter().zip(typed.rule_spans.iter().copied()).collect();
    let trained = || typed.stored.iter().map(|s| &s.decl).filter(|decl| decl.kind == TensorKind::Trained);
    for (index, (rule, span)) in rules.iter().enumerate() {
        // The first rule that gives a setting gives it for good.
        let by = |decl: &TensorDecl| {
            let before = rules[..index].iter().filter(|(earlier, _)| earlier.selector.matches(&decl.path, decl.role));
            let mut left = sets(rule);
            let mut last = None;
            for (earlier, at) in before {
                for (mine, theirs) in left.iter_mut().zip(sets(earlier)) {
                    if *mine && theirs {
                        (*mine, last) = (false, Some(*at));
                    }
                }
            }
            last.filter(|_| left.iter().all(|mine| !mine))
        };
        let matched: Vec<&TensorDecl> = trained().filter(|decl| rule.selector.matches(&decl.path, decl.role)).collect();
        let shadows: Option<Vec<Span>> = matched.iter().map(|decl| by(decl)).collect();
        // Of a loop's rules one that changes something is enough.
        let one_of_many = typed.rule_spans.iter().filter(|at| **at == *span).count() > 1;
        if let Some(shadows) = shadows.filter(|shadows| !shadows.is_empty() && !one_of_many) {
            diagnostics.push(
                Diagnostic::new(
                    Code::ShadowedRule,
                    "a rule changes nothing: an earlier one sets the same for all that it matches",
                )
                .label(*span, "never comes to anything")
                .label(shadows[0], "this one comes first")
                .help("move it above, or remove it"),
            );
        }
    }
}

fn check_rules(typed: &Typed, diagnostics: &mut Diagnostics) {
    let (mut told, mut fits) = (None, None);
    for (rule, span) in typed.spec.train.rules.iter().zip(&typed.rule_spans) {
        let Selector::Paths(globs) = &rule.selector else { continue };
        // Rules that one loop made stand at one place: the first of them that is wrong tells enough.
        if told == Some(*span) {
            continue;
        }
        let matches = |decl: &TensorDecl| rule.selector.matches(&decl.path, decl.role);
        let hits: Vec<&TensorDecl> = typed.stored.iter().map(|s| &s.decl).filter(|d| matches(d)).collect();
        if hits.iter().any(|d| d.kind == TensorKind::Trained) {
            fits = Some(*span);
            continue;
        }
        let shown = globs.join("`, `");
        let diagnostic = if let Some(copy) = hits.iter().find(|d| d.kind == TensorKind::Ema) {
            let source = typed.emas.iter().flat_map(|e| &e.pairs).find(|(c, _)| *c == copy.path).map(|(_, s)| s);
            let help = source.map(|s| format!("write the trained one: `path \"{s}\"`"));
            Diagnostic::new(Code::RuleMatchesCopy, format!("`{shown}` names averaged copies, which have no gradient"))
                .label(*span, format!("`{}` is not trained", copy.path))
                .maybe_help(help)
        } else {
            let known = typed.stored.iter().filter(|s| s.decl.kind == TensorKind::Trained);
            let past = (fits == Some(*span)).then(|| format!("let the loop end before `{shown}`"));
            let suggested = || crate::diag::suggest(&globs[0], known.map(|s| s.decl.path.as_str()));
            let help = past
                .or_else(suggested)
                .unwrap_or_else(|| "`*` stands for any text: `path \"encoder.blocks.*\"`".into());
            Diagnostic::new(Code::RuleMatchesNothing, format!("`{shown}` matches no parameter"))
                .label(*span, "changes nothing")
                .help(help)
        };
        diagnostics.push(diagnostic);
        told = Some(*span);
    }
}
