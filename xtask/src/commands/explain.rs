//! `explain`: why a stage or a trial would run again.

use std::collections::BTreeMap;

use anyhow::Result;
use bench_core::canonical::Digest;
use serde_json::{Value, json};

use super::Session;
use crate::{
    cli::{MessageFormat, RemoteArgs},
    error::{self, Code},
    output,
};
use dag::{
    Dag, LEAF, State, TASK,
    key::{Change, changes},
};
use profile::Trial;

/// Explains a stage by name, or a trial by the beginning of its key.
pub fn run(
    profile: &str,
    what: &str,
    offline: bool,
    remote: &RemoteArgs,
    format: MessageFormat,
) -> Result<()> {
    let session = Session::open_for(profile, offline, true)?;
    let engine = session.engine()?;
    let context = session.context(&*engine);
    let dag = session.plan(&context, &|_| true, false)?;
    let names: Vec<String> = dag.iter().map(|(task, _)| task.name().to_owned()).collect();
    if names.iter().any(|name| name == what) {
        return stage(&session, &dag, what, format);
    }
    if what.len() >= 6 && what.bytes().all(|b| b.is_ascii_hexdigit()) {
        return trial(&session, &dag, what, remote, format);
    }
    Err(Code::UnknownName.error(error::no_such("stage or trial", what, &names)))
}

/// A stage's state, for programs: finished, never finished, open until those before it are done, or to
/// be run again.
pub fn state(session: &Session, name: &str, state: &State<Trial>) -> &'static str {
    match state {
        State::Done(_) => "up-to-date",
        _ if session.store.latest(&session.profile.name, name).is_none() => "missing",
        State::Waiting(_) => "open",
        _ => "stale",
    }
}

fn stage(session: &Session, dag: &Dag<'_, Trial>, name: &str, format: MessageFormat) -> Result<()> {
    let state = dag.state(name).expect("the name was found in the DAG");
    let below = below(dag, name);
    if format == MessageFormat::Json {
        let changes = stage_changes(session, dag, name)?;
        let state = self::state(session, name, state);
        let explained =
            json!({ "stage": name, "state": state, "changes": changes, "below": below });
        return output::answer("explain", &explained);
    }
    match state {
        State::Done(action) => outln!("{name} is up to date (key {})", action.key.short())?,
        _ if session.store.latest(&session.profile.name, name).is_none() => {
            outln!("{name} has never finished in this store")?;
        }
        State::Waiting(needs) => outln!("{name} would rerun if {} changes", needs.join(" or "))?,
        _ => outln!("{name} would rerun:")?,
    }
    for line in stage_changes(session, dag, name)? {
        outln!("  {line}")?;
    }
    if !matches!(state, State::Done(_)) && !below.is_empty() {
        outln!("  below it: {} (each only if what it reads changes)", below.join(", "))?;
    }
    Ok(())
}

/// Stages that read the stage, directly or not.
fn below(dag: &Dag<'_, Trial>, name: &str) -> Vec<String> {
    let mut below: Vec<String> = Vec::new();
    for (task, _) in dag.iter() {
        if task.needs().iter().any(|need| need == name || below.contains(need)) {
            below.push(task.name().to_owned());
        }
    }
    below
}

/// What differs between a stage's key now and when it last finished, a line a change.
pub fn stage_changes(session: &Session, dag: &Dag<'_, Trial>, name: &str) -> Result<Vec<String>> {
    let Some(key) = session.store.latest(&session.profile.name, name) else {
        return Ok(Vec::new());
    };
    let Some(last) = session.store.action(&TASK, &key)? else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    // Of a stage whose inputs are not all known, what is known is compared.
    if let State::Runnable(now, _) = dag.state(name).expect("the stage is in the DAG") {
        let found = changes(&last.key_inputs, &now.key_inputs());
        lines.extend(found.iter().filter(|c| !c.path.starts_with("inputs.trial/")).map(show));
    } else if let Some((task, _)) = dag.iter().find(|(task, _)| task.name() == name) {
        let before = &last.key_inputs["config"];
        lines.extend(changes(before, &task.config()).iter().map(show));
    }
    let Some(leaves) = dag.leaves(name) else { return Ok(lines) };
    let now: BTreeMap<&str, _> = leaves.iter().map(|leaf| (leaf.role.as_str(), leaf)).collect();
    for (role, leaf) in &now {
        let before = last.leaves.get(*role);
        if before == Some(&leaf.key) {
            if session.store.action(&LEAF, &leaf.key)?.is_none() {
                lines.push(format!("trial {role}: gone from the store"));
            }
            continue;
        }
        lines.push(format!(
            "trial {role}: {}",
            trial_change(session, before, &leaf.what.key_inputs())?
        ));
    }
    for role in last.leaves.keys().filter(|role| !now.contains_key(role.as_str())) {
        lines.push(format!("trial {role}: no longer asked for"));
    }
    Ok(lines)
}

fn trial_change(session: &Session, before: Option<&Digest>, now: &Value) -> Result<String> {
    let last = match before {
        Some(key) => session.store.action(&LEAF, key)?,
        None => return Ok("new".to_owned()),
    };
    let Some(last) = last else { return Ok("its former record is gone from the store".to_owned()) };
    let fields: Vec<String> = changes(&last.key_inputs, now).iter().map(show).collect();
    Ok(fields.join(", "))
}

fn trial(
    session: &Session,
    dag: &Dag<'_, Trial>,
    prefix: &str,
    remote: &RemoteArgs,
    format: MessageFormat,
) -> Result<()> {
    for (task, _) in dag.iter() {
        for leaf in dag.leaves(task.name()).into_iter().flatten() {
            if leaf.key.to_string().starts_with(prefix) {
                let state = match session.store.action(&LEAF, &leaf.key)? {
                    None if session.in_remote(remote, dag)?.contains(&leaf.key) => {
                        "not measured here, but in the remote store"
                    }
                    None => "not measured yet",
                    Some(action) if action.left_out.is_empty() => "stored",
                    Some(_) => "stored without its raw samples, which the bundle left out",
                };
                if format == MessageFormat::Json {
                    let explained = json!({
                        "trial": leaf.key, "trial_name": leaf.role, "stage": task.name(),
                        "state": state, "key_inputs": leaf.what.key_inputs()
                    });
                    return output::answer("explain", &explained);
                }
                outln!("trial {} of {} ({}): {state}", leaf.role, task.name(), leaf.key)?;
                outln!("{}", serde_json::to_string_pretty(&leaf.what.key_inputs())?)?;
                return Ok(());
            }
        }
    }
    let message = format!("no trial of profile {} begins with {prefix}", session.profile.name);
    Err(Code::UnknownName.error(message))
}

fn show(change: &Change) -> String {
    let text =
        |value: &Option<String>| value.clone().map_or("nothing".to_owned(), |text| shorten(&text));
    format!("{}: {} → {}", change.path, text(&change.before), text(&change.after))
}

/// Digests are shown by their first digits.
fn shorten(text: &str) -> String {
    Digest::parse(text).map_or_else(|| text.to_owned(), |digest| digest.short())
}
