//! `[tune]`: flags that are searched together.

use bench_core::schema::{ArgValue, Args};

use super::{
    ReadModel,
    args::{Accepted, overlay},
    engine::{Engine, read_model},
    read::{Item, Problems, Table},
    resolved::{Tune, TuneSetting},
};

const VALUES_MAX: usize = 100;
const SETTINGS_MAX: usize = 5_000;
const ENGINE_MINUTES_MAX: u32 = 1_000_000;

/// Reads the section; combinations that vLLM refuses are no settings.
pub(super) fn read(
    problems: &Problems,
    mut table: Table<'_>,
    engine: &Engine,
    models: &dyn ReadModel,
) -> Option<Tune> {
    let flags = table
        .require("flags", "a [tune.flags] table: FLAG = [VALUES]")
        .and_then(|item| Some((item.clone(), item.table("[tune.flags]")?)));
    let budget = table
        .require("budget_engine_minutes", "budget_engine_minutes = N")
        .and_then(|item| item.integer_u32(1..=ENGINE_MINUTES_MAX));
    let model = match table.get("model") {
        Some(item) => read_model(&item, models).map(Some),
        None => Some(None),
    };
    let seed = match table.get("seed") {
        Some(item) => item.integer_u32(0..=u32::MAX),
        None => Some(0),
    };
    table.finish(|_| None);

    let (item, mut table) = flags?;
    let mut axes: Vec<(String, Vec<ArgValue>)> = Vec::new();
    for flag in table.rest() {
        let name = flag.key.value;
        let unknown = format!("unknown flag `{name}` in [tune.flags]");
        if engine.accepted.check_name(problems, unknown, name, &flag.key.span) {
            axes.push((name.to_owned(), values(&flag, &engine.accepted)?));
        }
    }
    let count = axes.iter().map(|(_, values)| values.len()).product::<usize>();
    if axes.is_empty() || count > SETTINGS_MAX {
        item.report(
            format!("{count} settings to search"),
            format!("expected a flag or more, and at most {SETTINGS_MAX} combinations"),
        );
        return None;
    }
    let settings: Vec<TuneSetting> = (0..count)
        .map(|number| setting(&axes, number))
        .filter(|setting| engine.refusal(&overlay(&engine.args.args, &setting.args)).is_none())
        .collect();
    if settings.is_empty() {
        item.report("vLLM refuses every combination", "change a flag's values");
        return None;
    }
    Some(Tune {
        flags: axes.into_iter().map(|(flag, _)| flag).collect(),
        settings,
        budget_engine_minutes: budget?,
        model: model?,
        seed: seed?,
    })
}

/// The values of a flag, each once; numbers in their order, since the search takes neighbours for
/// alike.
fn values(item: &Item<'_>, accepted: &Accepted) -> Option<Vec<ArgValue>> {
    let mut values: Vec<ArgValue> = Vec::new();
    for element in item.list(VALUES_MAX)? {
        let value = accepted.read_value(&element, item.key.value)?;
        if values.contains(&value) {
            element.report(format!("{value} twice"), "name it once");
            return None;
        }
        values.push(value);
    }
    if values.len() < 2 {
        item.report("a flag with one value", "add another, or put it into [engine.args]");
        return None;
    }
    if values.iter().all(|value| value.as_f64().is_some()) {
        values
            .sort_by(|a, b| f64::total_cmp(&a.as_f64().unwrap_or(0.0), &b.as_f64().unwrap_or(0.0)));
    }
    Some(values)
}

/// A setting by its number in the grid.
fn setting(axes: &[(String, Vec<ArgValue>)], mut number: usize) -> TuneSetting {
    let (mut args, mut levels) = (Args::new(), Vec::new());
    for (flag, values) in axes {
        let level = number % values.len();
        number /= values.len();
        args.insert(flag.clone(), values[level].clone());
        levels.push((level, values.len()));
    }
    TuneSetting { args, levels }
}
