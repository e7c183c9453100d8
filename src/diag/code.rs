//! The closed set of codes of errors and warnings. A code's first part is its phase, or `warning`, and its page.

use super::Severity;

macro_rules! codes {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// What a diagnostic is about; `cmaec explain CODE` prints its page.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($variant),* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name),* }
            }
        }
    };
}

codes! {
    UnexpectedToken = "syntax::unexpected_token",
    Separator = "syntax::separator",
    Bracket = "syntax::bracket",
    MissingValue = "syntax::missing_value",
    Number = "syntax::number",
    Letter = "syntax::letter",
    OtherLanguage = "syntax::other_language",
    OpenString = "syntax::open_string",
    TooDeep = "syntax::too_deep",
    TooLong = "syntax::too_long",
    Encoding = "syntax::encoding",
    FileNotFound = "name::file_not_found",
    UnknownItem = "name::unknown_item",
    UnknownName = "name::unknown_name",
    UnknownField = "name::unknown_field",
    UnknownArgument = "name::unknown_argument",
    MissingArgument = "name::missing_argument",
    DuplicateArgument = "name::duplicate_argument",
    DuplicateName = "name::duplicate_name",
    CyclicUse = "name::cyclic_use",
    UnusedLoop = "name::unused_loop",
    UnusedSetting = "name::unused_setting",
    MissingSetting = "name::missing_setting",
    UnknownSetting = "name::unknown_setting",
    NotCallable = "name::not_callable",
    NoPipeline = "name::no_pipeline",
    WrongType = "unit::wrong_type",
    WrongUnit = "unit::wrong_unit",
    OutOfRange = "unit::out_of_range",
    TooLarge = "unit::too_large",
    NotDivisible = "unit::not_divisible",
    BadOperands = "unit::bad_operands",
    Requirement = "unit::requirement",
    ShapeMismatch = "shape::mismatch",
    OpShape = "shape::op",
    EmptyShape = "shape::empty",
    ShapeTooLarge = "shape::too_large",
    NotATensor = "shape::not_a_tensor",
    StaticExpected = "shape::static_expected",
    ViewTooSmall = "view::too_small",
    ViewOrder = "view::order",
    ColourMissing = "view::colour_missing",
    GeometryLost = "view::geometry_lost",
    NoLabelMap = "view::no_label_map",
    NoLoss = "graph::no_loss",
    NothingTrained = "graph::nothing_trained",
    GraphTooLarge = "graph::too_large",
    RuleMatchesNothing = "graph::rule_matches_nothing",
    RuleMatchesCopy = "graph::rule_matches_copy",
    CoupledEncoder = "graph::coupled_encoder",
    PrecisionMissing = "graph::precision_missing",
    MemoryMissing = "graph::memory_missing",
    DataPath = "data::path",
    Internal = "graph::internal",
    DataNotFound = "data::not_found",
    DataNotAFolder = "data::not_a_folder",
    DataWrongFormat = "data::wrong_format",
    DataEmptyFolder = "data::empty_folder",
    DataMixedFolder = "data::mixed_folder",
    DataChannels = "data::channels",
    DataUnreadable = "data::unreadable",
    DataTooFewPictures = "data::too_few_pictures",
    DataTooManyBroken = "data::too_many_broken",
    DataNoneReadable = "data::none_readable",
    DataUnknownClasses = "data::unknown_classes",
    DataGone = "data::gone",
    DataSeveralSources = "data::several_sources",
    DataNoThreads = "data::no_threads",
    WeightsNotFound = "weights::not_found",
    WeightsFormat = "weights::format",
    WeightsRefused = "weights::refused",
    WeightsNames = "weights::names",
    WeightsMissing = "weights::missing",
    WeightsUnexpected = "weights::unexpected",
    WeightsShape = "weights::shape",
    ExportNoModule = "export::no_module",
    ExportNoNetwork = "export::no_network",
    ExportNotFinite = "export::not_finite",
    ExportFeatures = "export::features",
    ExportNoForm = "export::no_form",
    ViewMayPad = "warning::may_pad",
    PicturesUnseen = "warning::pictures_unseen",
    NoStep = "warning::no_step",
    RateOfZero = "warning::rate_of_zero",
    WarmupUnfinished = "warning::warmup_unfinished",
    ScheduleUnfinished = "warning::schedule_unfinished",
    NeverReached = "warning::never_reached",
    NeverThawed = "warning::never_thawed",
    UnusedName = "warning::unused_name",
    CountedTwice = "warning::counted_twice",
    OtherClasses = "warning::other_classes",
    OtherColours = "warning::other_colours",
    ShadowedRule = "warning::shadowed_rule",
    NoGradient = "warning::no_gradient",
}

impl Code {
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with("warning::") { Severity::Warning } else { Severity::Error }
    }

    /// Whether it is of a text that does not follow the grammar.
    pub fn is_syntax(self) -> bool {
        self.as_str().starts_with("syntax::")
    }

    /// The page of the code's phase.
    fn page(self) -> &'static str {
        match self.as_str().split("::").next() {
            Some("syntax") => include_str!("codes/syntax.md"),
            Some("name") => include_str!("codes/name.md"),
            Some("unit") => include_str!("codes/unit.md"),
            Some("shape") => include_str!("codes/shape.md"),
            Some("view") => include_str!("codes/view.md"),
            Some("graph") => include_str!("codes/graph.md"),
            Some("weights") => include_str!("codes/weights.md"),
            Some("export") => include_str!("codes/export.md"),
            Some("warning") => include_str!("codes/warning.md"),
            _ => include_str!("codes/data.md"),
        }
    }

    /// The code's section of its page: what, why, an example, and how it is rendered.
    pub fn explanation(self) -> Option<&'static str> {
        let heading = format!("## {}\n", self.as_str());
        let page = self.page();
        let start = page.find(&heading)?;
        let rest = &page[start + heading.len()..];
        let end = rest.find("\n## ").map_or(page.len(), |end| start + heading.len() + end);
        Some(&page[start..end])
    }

    pub fn parse(text: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}
