//! `status`: each stage, up to date, stale and why, or missing.

use std::collections::BTreeSet;

use anyhow::Result;
use bench_core::{canonical::Digest, wrap::wrap};

use serde_json::json;

use super::{Session, explain};
use crate::{
    cli::{MessageFormat, RemoteArgs},
    output,
};
use dag::{Dag, State};
use profile::Trial;

/// Prints a line a stage.
pub fn run(profile: &str, offline: bool, remote: &RemoteArgs, format: MessageFormat) -> Result<()> {
    let session = Session::open_for(profile, offline, true)?;
    let engine = session.engine()?;
    let context = session.context(&*engine);
    let dag = session.plan(&context, &|_| true, false)?;
    let remote = session.in_remote(remote, &dag)?;
    let mut stages = Vec::new();
    for (task, state) in dag.iter() {
        let note = describe(&session, &dag, task.name(), state, &remote)?;
        if format == MessageFormat::Human {
            let line = format!("{:<20}  {note}", task.name());
            output::print(wrap(&line, 1, output::columns()))?;
        }
        let state = explain::state(&session, task.name(), state);
        stages.push(json!({ "name": task.name(), "state": state, "note": note }));
    }
    match format {
        MessageFormat::Human => Ok(()),
        MessageFormat::Json => {
            output::answer("status", &json!({ "profile": session.profile.name, "stages": stages }))
        }
    }
}

fn describe(
    session: &Session,
    dag: &Dag<'_, Trial>,
    name: &str,
    state: &State<Trial>,
    remote: &BTreeSet<Digest>,
) -> Result<String> {
    if matches!(state, State::Done(_)) {
        return Ok("up to date".to_owned());
    }
    if session.store.latest(&session.profile.name, name).is_none() {
        return Ok(match state {
            State::Waiting(needs) => format!("missing, after {}", needs.join(", ")),
            State::Wanting(leaves) => {
                match leaves.iter().filter(|leaf| remote.contains(&leaf.key)).count() {
                    0 => format!("missing, {} trials to measure", leaves.len()),
                    n => format!(
                        "missing, {} trials to measure and {n} in the remote store",
                        leaves.len() - n
                    ),
                }
            }
            _ => "missing".to_owned(),
        });
    }
    let why = explain::stage_changes(session, dag, name)?;
    Ok(match why.first() {
        Some(first) if why.len() == 1 => format!("stale: {first}"),
        Some(first) => {
            format!("stale: {first} (and {} more: `cargo xtask explain {name}`)", why.len() - 1)
        }
        None => match state {
            State::Waiting(needs) => format!("stale if {} changes", needs.join(" or ")),
            _ => "stale: its outputs are gone from the store".to_owned(),
        },
    })
}
