//! `[calibrate]`: what the simulator's model is fitted to; `[spread]`, which reads the same files.

use bench_core::{canonical::Digest, sim::predict::MeasuredTrial};

use super::{
    ReadModel,
    diagnostic::suggest,
    engine::read_model,
    load::Loads,
    read::{Item, Table},
    resolved::{Calibrate, Spreads},
};

const FILES_MAX: usize = 100;
const LOADS_MAX: usize = 1_000;

/// Reads the section. Without files of trials those of the profile's own sweeps are meant, which a
/// simulator cannot measure.
pub(super) fn read(
    mut table: Table<'_>,
    is_simulated: bool,
    loads: &Loads,
    models: &dyn ReadModel,
) -> Option<Calibrate> {
    let model = table
        .require("model", "model = NAME of a file in bench/models, to start from")
        .and_then(|item| read_model(&item, models));
    let sets = match table.get("trials") {
        Some(item) => item.list(FILES_MAX).and_then(|items| {
            (0..).zip(items).map(|(host, item)| measured(&item, host, models)).collect()
        }),
        None if is_simulated => {
            table.require("trials", "trials = [NAMES of files in bench/models/measured]");
            None
        }
        None => Some(Vec::new()),
    };
    let leave_out = match table.get("leave_out") {
        Some(item) => item
            .list(LOADS_MAX)
            .and_then(|items| items.iter().map(|item| load(item, loads)).collect()),
        None => Some(Vec::new()),
    };
    let fit = table.get("fit").map_or(Some(true), |item| Some(item.boolean()?.value));
    table.finish(|_| None);

    let ((model_name, model), leave_out, fit) = (model?, leave_out?, fit?);
    let sets: Vec<((String, Digest), Vec<MeasuredTrial>)> = sets?;
    let (files, trials): (Vec<_>, Vec<_>) = sets.into_iter().unzip();
    let is_left_out = |trial: &MeasuredTrial| {
        let mut named = loads.placed.iter().map(|placed| &placed.load);
        named.any(|load| load.spec == trial.load && leave_out.contains(&load.name))
    };
    let mut trials = trials.concat();
    trials.retain(|trial| !is_left_out(trial));
    Some(Calibrate { model_name, model, fit, files, leave_out, trials })
}

/// `[spread]`: measured trials whose starts say how much starts differ.
pub(super) fn read_spread(mut table: Table<'_>, models: &dyn ReadModel) -> Option<Spreads> {
    let items = table.require("trials", "trials = [NAMES of files in bench/models/measured]");
    table.finish(|_| None);
    let files = items?.list(FILES_MAX)?;
    let files: Option<Vec<_>> = files.iter().map(|item| measured(item, 0, models)).collect();
    Some(Spreads(files?))
}

/// A file of trials, all of one host: its name and digest, and what is in it.
fn measured(
    item: &Item<'_>,
    host: usize,
    models: &dyn ReadModel,
) -> Option<((String, Digest), Vec<MeasuredTrial>)> {
    let name = item.text()?.value;
    let why = match models.measured(name) {
        Ok(text) => match MeasuredTrial::read_all(&text, host) {
            Ok(trials) => return Some(((name.to_owned(), Digest::of(text.as_bytes())), trials)),
            Err((line, error)) => format!("line {line}: {error}"),
        },
        Err(Some(why)) => why,
        Err(None) => {
            let names = models.measured_names();
            item.report(
                format!("no trials `{name}` in bench/models/measured"),
                suggest(name, names.iter().map(String::as_str)),
            );
            return None;
        }
    };
    item.report(format!("cannot read bench/models/measured/{name}.jsonl"), why);
    None
}

fn load(item: &Item<'_>, loads: &Loads) -> Option<String> {
    let name = item.text()?.value;
    let names = || loads.placed.iter().map(|placed| placed.load.name.as_str());
    if !names().any(|other| other == name) {
        item.report(format!("no load `{name}`"), suggest(name, names()));
        return None;
    }
    Some(name.to_owned())
}
