//! What `evaluate` judges features by, `knn` and `linear`, and logits, `classify`.
//!
//! Each call judges one value, one row a picture, and its figures go by the name of its definition, or of what it calls.
//!
//! **Invariant:** names are one evaluation's each, and what a call judges is an output of the graph: `features`, or `evaluate.NAME`.

use crate::diag::{Code, Diagnostic, Reported};
use crate::elab::{Bag, Bound, Kind, Value};
use crate::source::Span;
use crate::spec::{
    BASELINE_LIMIT, Classification, DataSpec, Duration, EvaluateSpec, Evaluation, Judging, KnnSpec, Limit, LinearSpec,
    Solver, SourceSpec,
};

use super::evaluate::{Call, Outputs};

/// Parameters of `knn`.
pub const KNN: &[&str] = &[
    "features?",
    "bank?",
    "queries?",
    "k?",
    "temperature?",
    "every?",
    "bank_limit?",
    "query_limit?",
    "baseline_limit?",
];

/// Parameters of `linear`.
pub const LINEAR: &[&str] = &[
    "features?",
    "train?",
    "val?",
    "every?",
    "learning_rates?",
    "weight_decays?",
    "epochs?",
    "batch_size?",
    "solver?",
    "train_limit?",
    "val_limit?",
    "baseline_limit?",
];

/// Parameters of `classify`.
pub const CLASSIFY: &[&str] = &["logits", "classes?", "queries?", "every?", "query_limit?"];

/// Parameters of `linear` that only SGD has.
const OF_SGD: [&str; 4] = ["learning_rates", "weight_decays", "epochs", "batch_size"];

/// A kind of call that judges a value.
struct Judges {
    callee: &'static str,
    parameters: &'static [&'static str],
    /// The parameter that is judged.
    judged: &'static str,
    /// Those of the source that is known, data.train by itself, and of the one that is asked, data.val.
    sources: [&'static str; 2],
}

const OF_KNN: Judges = Judges { callee: "knn", parameters: KNN, judged: "features", sources: ["bank", "queries"] };
const OF_LINEAR: Judges =
    Judges { callee: "linear", parameters: LINEAR, judged: "features", sources: ["train", "val"] };
const OF_CLASSIFY: Judges =
    Judges { callee: "classify", parameters: CLASSIFY, judged: "logits", sources: ["classes", "queries"] };

/// What such a call has, of whatever kind.
struct Judged {
    bag: Bag,
    /// The output of the graph that is judged.
    output: String,
    every: Duration,
    sources: [String; 2],
}

impl Bound<'_> {
    pub(super) fn knn(
        &mut self,
        call: Call<'_>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let Judged { bag, output, every, sources: [bank, queries] } = self.begin(&OF_KNN, &call, spec, outputs)?;
        let knn = (|| {
            Ok(KnnSpec {
                bank,
                queries,
                k: bag.counts("k", 20)?,
                temperature: bag.float("temperature", 0.07)?,
                every,
                bank_limit: bag.limit("bank_limit", Limit::default())?,
                query_limit: bag.limit("query_limit", Limit::default())?,
                baseline_limit: bag.limit("baseline_limit", BASELINE_LIMIT)?,
            })
        })();
        let knn = self.machine.check(knn)?;
        self.check_classes("knn", call.span, &knn.bank, &knn.queries);
        spec.evaluations.push(Evaluation { name: call.name.to_owned(), output, how: Judging::Knn(knn) });
        Ok(())
    }

    pub(super) fn linear(
        &mut self,
        call: Call<'_>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let Judged { bag, output, every, sources: [train, val] } = self.begin(&OF_LINEAR, &call, spec, outputs)?;
        let linear = (|| {
            Ok(LinearSpec {
                train,
                val,
                every,
                solver: solver(&bag)?,
                train_limit: bag.limit("train_limit", Limit::default())?,
                val_limit: bag.limit("val_limit", Limit::default())?,
                baseline_limit: bag.limit("baseline_limit", BASELINE_LIMIT)?,
            })
        })();
        let linear = self.machine.check(linear)?;
        self.check_classes("linear", call.span, &linear.train, &linear.val);
        spec.evaluations.push(Evaluation { name: call.name.to_owned(), output, how: Judging::Linear(linear) });
        Ok(())
    }

    pub(super) fn classify(
        &mut self,
        call: Call<'_>,
        spec: &mut EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<(), Reported> {
        let Judged { bag, output, every, sources: [classes, queries] } =
            self.begin(&OF_CLASSIFY, &call, spec, outputs)?;
        let query_limit = bag.limit("query_limit", Limit::default());
        let query_limit = self.machine.check(query_limit)?;
        self.check_classes("classify", call.span, &classes, &queries);
        let name = call.name.to_owned();
        spec.classifications.push(Classification { name, output, classes, queries, query_limit, every });
        Ok(())
    }

    /// Binds what all kinds of calls have.
    fn begin(
        &mut self,
        kind: &Judges,
        call: &Call<'_>,
        spec: &EvaluateSpec,
        outputs: &mut Outputs,
    ) -> Result<Judged, Reported> {
        let Judges { callee, parameters, judged, sources: [known, asked] } = *kind;
        self.named_once(callee, call, spec)?;
        let bag = self.machine.bind_builtin(callee, parameters, call.arguments, call.span, call.scope)?;
        let output = self.judged((callee, judged), call, bag.get(judged), outputs)?;
        let every = self.duration(bag.get("every"), &format!("`every` of `{callee}`"))?;
        let known = self.source_of(callee, known, "train", bag.get(known), call.span)?;
        let asked = self.source_of(callee, asked, "val", bag.get(asked), call.span)?;
        Ok(Judged { bag, output, every, sources: [known, asked] })
    }

    /// Refuses a second evaluation of one name.
    pub(super) fn named_once(&mut self, callee: &str, call: &Call<'_>, spec: &EvaluateSpec) -> Result<(), Reported> {
        let Call { name, span, .. } = *call;
        if !spec.names().any(|other| other == name) {
            return Ok(());
        }
        self.machine.fail(
            Diagnostic::new(Code::DuplicateName, format!("`{name}` is called twice"))
                .label(span, "again here")
                .help(format!("give it a name of its own: `second = {callee}(…)`")),
        )
    }

    /// The name of the output that a call judges: `features`, or that of a value of its own. Where `features` is not defined, the
    /// first value that is judged is.
    fn judged(
        &mut self,
        (callee, parameter): (&str, &str),
        call: &Call<'_>,
        given: Option<&Value>,
        outputs: &mut Outputs,
    ) -> Result<String, Reported> {
        if matches!(call.scope.get("features"), Some(Value { kind: Kind::Poison, .. })) {
            return Err(Reported);
        }
        let features = outputs.iter().find(|(name, _)| name == "features").map(|(_, id)| *id);
        let Some(value) = given else {
            if features.is_some() {
                return Ok("features".to_owned());
            }
            return self.machine.fail(
                Diagnostic::new(
                    Code::MissingSetting,
                    format!("`{callee}` judges the definition `features` of `evaluate`"),
                )
                .label(call.span, "there is none above")
                .help("define it above: `features = encoder(views.eval).cls`"),
            );
        };
        if matches!(value.kind, Kind::Poison) {
            return Err(Reported);
        }
        let id = self.rows(&format!("`{parameter}` of `{callee}`"), value)?;
        let output = match features {
            Some(features) if features != id => format!("evaluate.{}", call.name),
            _ => "features".to_owned(),
        };
        if features != Some(id) {
            outputs.push((output.clone(), id));
        }
        Ok(output)
    }

    /// The source that parameter `name` names, data.`usual` by itself.
    pub(super) fn source_of(
        &mut self,
        callee: &str,
        name: &str,
        usual: &str,
        given: Option<&Value>,
        span: Span,
    ) -> Result<String, Reported> {
        match given {
            Some(Value { kind: Kind::Source(source), .. }) => return Ok(source.to_string()),
            Some(value) => {
                let what =
                    format!("`{name}` of `{callee}` wants a source such as data.{usual}, found {}", value.describe());
                let wrong = Diagnostic::new(Code::WrongType, what).label(value.span, "no source");
                let help = format!("write `{name}: data.{usual}`, a source that `data` names");
                return self.machine.fail(wrong.help(help));
            }
            None if self.spec.data.source(usual).is_some() => return Ok(usual.to_owned()),
            None => {}
        }
        // What is wrong with a source has been told.
        if let Some(Value { kind: Kind::Record(fields), .. }) = self.scope.get("data")
            && fields.iter().any(|(name, value)| &**name == usual && matches!(value.kind, Kind::Poison))
        {
            return Err(Reported);
        }
        let what = format!("`{callee}` takes `{name}` from data.{usual}, which is not there");
        let help = format!("name a source, such as `{name}: data.train`, or write `{usual} = …` in `data`");
        self.machine.fail(Diagnostic::new(Code::MissingSetting, what).label(span, format!("no `{name}`")).help(help))
    }

    /// Warns where what `known` is labelled with is not what `asked` is asked for.
    fn check_classes(&mut self, callee: &str, span: Span, known: &str, asked: &str) {
        let place = |source: &str| {
            self.source_spans.iter().find(|(name, _)| name == source).map_or(span, |(_, written)| *written)
        };
        if let Some(warning) = other_classes(&self.spec.data, callee, (known, place(known)), (asked, place(asked))) {
            self.machine.diagnostics.push(warning);
        }
    }
}

fn solver(bag: &Bag) -> Result<Solver, Diagnostic> {
    match bag.get("solver") {
        None => {}
        Some(Value { kind: Kind::Str(name), .. }) if name.as_ref() == "sgd" => {}
        Some(Value { kind: Kind::Str(name), .. }) if name.as_ref() == "exact" => {
            let given = OF_SGD.iter().find_map(|name| Some((name, bag.get(name)?)));
            return match given {
                None => Ok(Solver::Exact),
                Some((name, value)) => Err(Diagnostic::new(
                    Code::UnusedSetting,
                    format!("`{name}` of `linear` is of `solver: \"sgd\"`, this one is \"exact\""),
                )
                .label(value.span, "nothing reads this")
                .help("leave one of both out")),
            };
        }
        Some(value) => {
            let what = format!("`solver` of `linear` is \"sgd\" or \"exact\", found {}", value.describe());
            return Err(Diagnostic::new(Code::WrongType, what)
                .label(value.span, "neither of both")
                .help("write `solver: \"exact\"` for a fit that has converged, or leave it out"));
        }
    }
    Ok(Solver::Sgd {
        learning_rates: bag.floats("learning_rates", &LinearSpec::LEARNING_RATES)?,
        weight_decays: bag.floats("weight_decays", &[0.0])?,
        epochs: bag.count("epochs", LinearSpec::EPOCHS)?,
        batch_size: bag.count("batch_size", LinearSpec::BATCH_SIZE)?,
    })
}

/// Where one data set is asked for the classes of another: what they are called tells nothing.
fn other_classes(
    data: &DataSpec,
    callee: &str,
    (known, known_span): (&str, Span),
    (asked, asked_span): (&str, Span),
) -> Option<Diagnostic> {
    let classes = |name: &str| data.source(name).and_then(SourceSpec::classes);
    let (asked, known) = (classes(asked)?, classes(known)?);
    (asked != known).then(|| {
        let by = if callee == "knn" { "neighbours that are" } else { "what is" };
        let message = format!("`{callee}` asks for {asked} by {by} labelled with {known}");
        Diagnostic::new(Code::OtherClasses, message)
            .label(asked_span, asked)
            .label(known_span, known)
            .help(format!("let `data.train` and `data.val` be of one data set, or leave `{callee}` out"))
    })
}
