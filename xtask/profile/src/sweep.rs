//! `[sweep.NAME]`: launches that differ in one argument, or one named group of arguments; environment
//! variables are arguments ([`crate::flags::argument`]).

use bench_core::schema::{ArgValue, Args};

use super::{
    args::{Accepted, PlacedArgs, overlay},
    diagnostic::Diagnostic,
    engine::Engine,
    environment,
    load::{Loads, is_name},
    read::{At, Item, Problems, Span, Table},
    resolved::{Sweep, SweepValue},
    stage,
};
use crate::{
    flags::{self, Refusal},
    role,
};

const VALUES_MAX: usize = 10_000;
const SWEEPS_MAX: usize = 200;
const STARTS_MAX: u32 = 100;

/// What sweeps are read against.
pub(super) struct Context<'a> {
    pub(super) problems: &'a Problems,
    pub(super) engine: &'a Engine,
    pub(super) loads: &'a Loads,
    /// Loads of a sweep that names none; `None` where the objective has a mistake.
    pub(super) default_loads: Option<Vec<String>>,
}

/// What a sweep turns.
struct Swept {
    argument: String,
    span: Span,
    /// Whether the profile names it, and not only the sweep.
    named: bool,
}

/// Reads `[sweep]` with everything in it.
pub(super) fn read(context: &Context<'_>, mut sweeps: Table<'_>) -> Vec<Sweep> {
    let base = sweeps.get("base").and_then(|item| context.base(&item)).unwrap_or_default();
    let mut files: Vec<At<String>> = Vec::new();
    let items = sweeps.rest();
    if let Some(item) = items.get(SWEEPS_MAX) {
        item.report("too many sweeps", format!("expected at most {SWEEPS_MAX}"));
    }
    items
        .iter()
        .take(SWEEPS_MAX)
        .filter_map(|item| context.sweep(item, &base, &mut files))
        .collect()
}

impl Context<'_> {
    /// `[sweep.base]`: arguments around which every sweep turns one.
    fn base(&self, item: &Item<'_>) -> Option<Args> {
        let mut table = item.table("[sweep.base]")?;
        if let Some(values) = table.get("values") {
            self.problems.report(Diagnostic::new(
                "`base` is no sweep",
                values.key.span,
                "[sweep.base] holds the arguments that all sweeps share; name the sweep otherwise",
            ));
            return None;
        }
        let base = self.engine.accepted.read(self.problems, table);
        self.check_combination(&self.engine.args.args, &base, None).then_some(base.args)
    }

    fn sweep(&self, item: &Item<'_>, base: &Args, files: &mut Vec<At<String>>) -> Option<Sweep> {
        let name = item.key.value;
        self.check_name(name, &item.key.span)?;
        let mut table = item.table(format!("[sweep.{name}]"))?;
        let values = table.require("values", "values = [...]");
        let swept = self.swept(&mut table, item);
        let loads = match table.get("loads") {
            Some(item) => self.loads(&item),
            None => self.default_loads.clone(),
        };
        let starts = match table.get("starts") {
            Some(item) => item.integer_u32(1..=STARTS_MAX),
            None => Some(1),
        };
        let file = self.file(&mut table, name, &item.key.span, files);
        let title = table.title.clone();
        table.finish(|_| None);

        let Swept { argument: flag, span, named } = swept?;
        let values = values?.list(VALUES_MAX)?;
        let has_scalars = values.iter().any(|value| !value.is_table());
        if (has_scalars || named)
            && flags::variable(&flag).is_none()
            && !self.engine.accepted.check_name(
                self.problems,
                format!("unknown flag `{flag}` in {title}"),
                &flag,
                &span,
            )
        {
            return None;
        }
        let values = self.values(&values, &title, &flag, base)?;
        let loads = loads?;
        self.check_lengths(&values, &loads, item);
        Some(Sweep {
            name: name.to_owned(),
            flag,
            values: values.into_iter().map(|value| value.value).collect(),
            loads,
            starts: starts?,
            file: file?,
        })
    }

    /// What the values without a table set: `flag`, the variable `env`, or the flag of the sweep's name.
    fn swept(&self, table: &mut Table<'_>, sweep: &Item<'_>) -> Option<Swept> {
        let flag = table.get("flag");
        let Some(env) = table.get("env") else {
            let named = flag.is_some();
            let (argument, span) = match flag {
                Some(item) => (item.text()?.value, item.span()),
                None => (sweep.key.value, sweep.key.span.clone()),
            };
            return Some(Swept { argument: argument.to_owned(), span, named });
        };
        if let Some(flag) = flag {
            flag.report("`flag` and `env` in one sweep", "take one out; a value may set several");
            return None;
        }
        if !matches!(self.engine.accepted, Accepted::Any { .. }) {
            env.report("a swept variable", "environments take kind = \"vllm\"");
            return None;
        }
        let variable = env.text()?.value;
        environment::check_name(&env, variable).then(|| Swept {
            argument: flags::argument(variable),
            span: env.span(),
            named: true,
        })
    }

    fn check_name(&self, name: &str, span: &Span) -> Option<()> {
        let (message, label) = if stage::STAGES.iter().any(|stage| stage.name == name) {
            (
                format!("`{name}` is a built-in stage and cannot be a sweep's name"),
                "name the sweep otherwise, and its flag in `flag`",
            )
        } else if !is_name(name) {
            (
                format!("`{name}` is no name of a sweep"),
                "expected lower-case letters, digits and dashes",
            )
        } else {
            return Some(());
        };
        self.problems.report(Diagnostic::new(message, span.clone(), label));
        None
    }

    fn loads(&self, item: &Item<'_>) -> Option<Vec<String>> {
        let mut loads: Vec<String> = Vec::new();
        for element in item.list(1000)? {
            let Some(name) = self.loads.name(&element) else { continue };
            if loads.contains(&name) {
                element.report(format!("load `{name}` twice"), "name it once");
            } else {
                loads.push(name);
            }
        }
        Some(loads)
    }

    fn file(
        &self,
        table: &mut Table<'_>,
        name: &str,
        span: &Span,
        files: &mut Vec<At<String>>,
    ) -> Option<String> {
        let file = match table.get("file") {
            Some(item) => {
                let text = item.text()?;
                let stem = text.value.strip_suffix(".json");
                if !stem.is_some_and(|stem| is_name(&stem.replace('_', "-"))) {
                    item.report(
                        format!("`{}` is no name of a result file", text.value),
                        "expected lower-case letters, digits, _ and -, then .json",
                    );
                    return None;
                }
                At { value: text.value.to_owned(), span: text.span }
            }
            None => At {
                value: format!("{}_optimization.json", name.replace('-', "_")),
                span: span.clone(),
            },
        };
        if stage::is_written(&file.value) {
            self.problems.report(Diagnostic::new(
                format!("`{}` is a built-in stage's result file", file.value),
                file.span,
                "name it otherwise",
            ));
            return None;
        }
        if let Some(first) = files.iter().find(|other| other.value == file.value) {
            self.problems.report(
                Diagnostic::new(
                    format!("two sweeps write `{}`", file.value),
                    file.span,
                    "give this one another `file`",
                )
                .related(first.span.clone(), "the first"),
            );
            return None;
        }
        files.push(file.clone());
        Some(file.value)
    }

    /// Reads all values, so that all mistakes are shown; `None` after one.
    fn values(
        &self,
        items: &[Item<'_>],
        title: &str,
        flag: &str,
        base: &Args,
    ) -> Option<Vec<At<SweepValue>>> {
        let mut values: Vec<At<SweepValue>> = Vec::new();
        let mut complete = true;
        for item in items {
            let Some((label, set)) = self.value(item, title, flag) else {
                complete = false;
                continue;
            };
            let args = overlay(base, &set.args);
            let twin = values.iter().find(|other| other.value.args == args);
            let namesake = values.iter().find(|other| other.value.label == label);
            let twice = match (twin, namesake) {
                (Some(other), _) => Some((other, format!("`{label}` is the same setting twice"))),
                (_, Some(other)) => Some((other, format!("two values labelled `{label}`"))),
                _ => None,
            };
            if let Some((first, message)) = twice {
                self.problems.report(
                    Diagnostic::new(message, item.span(), "take it out, or change it")
                        .related(first.span.clone(), "the first"),
                );
                complete = false;
            }
            complete &= self.check_combination(
                &overlay(&self.engine.args.args, base),
                &set,
                Some(item.span()),
            );
            values.push(At { value: SweepValue { label, args }, span: item.span() });
        }
        complete.then_some(values)
    }

    fn value(&self, item: &Item<'_>, title: &str, flag: &str) -> Option<(String, PlacedArgs)> {
        if !item.is_table() {
            let value = self.engine.accepted.read_value(item, flag)?;
            let mut set = PlacedArgs::default();
            let label = value.to_string();
            set.insert(flag, value, item.span());
            return Some((label, set));
        }
        let mut table = item.table(format!("a value of {title}"))?;
        let label = table.get("label");
        if table.is_exhausted() {
            item.report("a value that sets nothing", "add a flag");
            return None;
        }
        let set = self.engine.accepted.read(self.problems, table);
        if set.args.is_empty() {
            return None;
        }
        let label = match label {
            Some(item) => own_label(&item)?,
            None => flags::label(&set.args),
        };
        Some((label, set))
    }

    /// Reports what vLLM refuses of `set` on top of `below`; `span` stands for the flags' own
    /// places.
    fn check_combination(&self, below: &Args, set: &PlacedArgs, span: Option<Span>) -> bool {
        let Some(refusal) = self.engine.refusal(&overlay(below, &set.args)) else {
            return true;
        };
        if self.engine.refusal(below).is_some() {
            // Reported where it arises.
            return true;
        }
        if let Some(span) = span.or_else(|| set.span_of(refusal.flags)) {
            self.problems.report(refused(&refusal, span));
        }
        false
    }

    /// Whether the lengths of the loads fit values that change `max-model-len`.
    fn check_lengths(&self, values: &[At<SweepValue>], loads: &[String], sweep: &Item<'_>) {
        for value in values {
            let Some(ArgValue::Int(len)) = value.value.args.get("max-model-len") else { continue };
            let too_long = self.loads.placed.iter().find(|load| {
                loads.contains(&load.load.name) && load.longest.value > len.unsigned_abs()
            });
            if let Some(load) = too_long {
                self.problems.report(
                    Diagnostic::new(
                        format!("requests of `{}` do not fit max-model-len {len}", load.load.name),
                        value.span.clone(),
                        format!("raise it, or give [sweep.{}] other `loads`", sweep.key.value),
                    )
                    .related(
                        load.longest.span.clone(),
                        format!("up to {} tokens in and out", load.longest.value),
                    ),
                );
            }
        }
    }
}

/// The message about a combination that vLLM refuses.
pub(super) fn refused(refusal: &Refusal, span: Span) -> Diagnostic {
    Diagnostic::new(format!("vLLM refuses this combination: {refusal}"), span, "change one of them")
}

/// A label that is none of the bench's own: those name settings in results and in `compare`.
fn own_label(item: &Item<'_>) -> Option<String> {
    const TAKEN: [&str; 4] = [role::DEFAULT, role::BASELINE, role::TUNED, "recommended"];
    let label = item.text()?.value;
    if TAKEN.contains(&label) {
        item.report(
            format!("the label `{label}` is taken"),
            "name the value otherwise: results have settings of their own under this name",
        );
        return None;
    }
    Some(label.to_owned())
}
