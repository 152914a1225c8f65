//! `confirm`: the configuration to deploy, started once as it is.

use anyhow::{Context as _, Result};
use bench_core::schema::{
    Arrival, Choice, CompareResult, ConfirmResult, Measured, Observed, Outcome, SettingFailure,
    Size,
};
use serde_json::{Value, json};

use super::{Context, StageResult, read, written};
use analysis::choice;
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{Stage, Trial, role::TrialRole, stage::CONFIRM};
use report::{Recommended, format};

/// Roles of the two trials: from the file, and with the same settings as flags.
fn roles() -> [String; 2] {
    let role = |setting, load| TrialRole::new(setting, load, 0).to_string();
    [role("recommended", "first-token"), role("measured", "first-load")]
}

/// What memory holds differs a little from start to start.
const KV_CACHE_DIFFERENCE_MAX: f64 = 0.02;

impl StageResult for ConfirmResult {
    const STAGE: &'static Stage = &CONFIRM;
}

pub struct Confirm<'a> {
    pub context: &'a Context<'a>,
}

impl Confirm<'_> {
    /// What the comparison recommends, with the number of its first judged start.
    fn recommended(&self, inputs: &Inputs<'_>) -> Result<Option<(Recommended, u32)>> {
        let profile = self.context.profile;
        let comparison: CompareResult = read(inputs)?;
        let start = choice::first_judged_start(profile, &comparison.decision.args);
        Ok(report::recommended(profile, &comparison).map(|recommended| (recommended, start)))
    }
}

impl Task for Confirm<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        CONFIRM.name
    }

    fn epoch(&self) -> u32 {
        CONFIRM.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&CONFIRM)
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        json!({ "args": profile.engine_args, "env": profile.engine_env, "load": profile.loads[0] })
    }

    /// One request on a server that reads the file, and what the same settings gave as flags:
    /// the latter is measured already.
    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let Some((Recommended { args, env, yaml }, replicate)) = self.recommended(inputs)? else {
            return Ok(Vec::new());
        };
        let profile = self.context.profile;
        let as_flags = Trial {
            identity: self.context.identity(inputs)?,
            instrument_epoch: profile.instrument_epoch,
            args,
            env,
            config_file: None,
            load: profile.loads[0].spec.clone(),
            data_file: profile.loads[0].data_file.clone(),
            replicate,
            block: None,
        };
        let mut as_file = Trial { config_file: Some(yaml), ..as_flags.clone() };
        (as_file.load.arrival, as_file.load.size) = (Arrival::AllAtOnce {}, Size::Requests(1));
        let roles = roles().into_iter().zip([as_file, as_flags]);
        roles.map(|(role, what)| Ok(Leaf { role, key: what.key()?, what })).collect()
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let header = self.context.header(CONFIRM.name, inputs)?;
        let mut result = ConfirmResult { header, choice: None, findings: Vec::new() };
        let Some((recommended, _)) = self.recommended(inputs)? else {
            return written(&result);
        };
        let [as_file, as_flags] = roles();
        let found = inputs.leaf::<Outcome>(&as_file).context("the start from recommended.yaml")?;
        match confirm(&found, &inputs.leaf(&as_flags)?) {
            Ok(reason) => {
                let label = "recommended".to_owned();
                result.choice = Some(Choice { label, args: recommended.args, reason });
            }
            Err(why) => result.findings.push(why),
        }
        written(&result)
    }
}

/// What a start from the file shows, or why it confirms nothing.
fn confirm(found: &Outcome, expected: &Outcome) -> std::result::Result<String, String> {
    let found = match found {
        Outcome::Measured(found) => found,
        Outcome::Refused(SettingFailure { class, evidence, .. }) => {
            return Err(format!("it does not run ({}): {}", class.title(), evidence.join("; ")));
        }
    };
    let counts = &found.summary.counts;
    if counts.completed != counts.planned {
        let kinds: Vec<_> = counts.failed.keys().cloned().collect();
        return Err(format!("it starts, but its first request fails ({})", format::list(&kinds)));
    }
    if let Outcome::Measured(Measured { observed: expected, .. }) = expected
        && let Some(difference) = difference(&found.observed, expected)
    {
        return Err(format!("it starts, but with other settings than were measured: {difference}"));
    }
    let settings = match resolved(&found.observed).as_slice() {
        [] => "it does not say to what it resolved its settings".to_owned(),
        some => format!("{}, as measured", format::list(some)),
    };
    Ok(format!("ready, and a first request was served; {settings}"))
}

/// The resolved settings in words.
fn resolved(observed: &Observed) -> Vec<String> {
    let number = |value: Option<u64>, what: &str| {
        Some(format!("{} {what}", format::number(value? as f64, 0)))
    };
    let parts = [
        number(observed.kv_cache_tokens, "tokens of KV cache"),
        number(observed.max_num_batched_tokens, "tokens a step"),
        observed.attention_backend.as_ref().map(|name| format!("attention by {name}")),
    ];
    parts.into_iter().flatten().collect()
}

/// What differs between the settings of two starts; what one of them does not say does not.
fn difference(found: &Observed, expected: &Observed) -> Option<String> {
    let sizes =
        |o: &Observed| [("KV cache tokens", o.kv_cache_tokens), ("blocks", o.kv_cache_blocks)];
    let texts = |o: &Observed| {
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        [
            ("version", o.version.clone()),
            ("block size", text(o.block_size)),
            ("tokens a step", text(o.max_num_batched_tokens)),
            ("attention backend", o.attention_backend.clone()),
        ]
    };
    let size = sizes(found).into_iter().zip(sizes(expected)).find_map(|((what, a), (_, b))| {
        let (a, b) = (a?, b?);
        let far = a.abs_diff(b) as f64 > KV_CACHE_DIFFERENCE_MAX * b as f64;
        far.then(|| format!("{what} {a} instead of {b}"))
    });
    size.or_else(|| {
        texts(found).into_iter().zip(texts(expected)).find_map(|((what, a), (_, b))| {
            let (a, b) = (a?, b?);
            (a != b).then(|| format!("{what} {a} instead of {b}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use bench_core::schema::FailureClass;

    use super::*;

    fn observed(tokens: u64, budget: u64) -> Observed {
        Observed {
            kv_cache_tokens: Some(tokens),
            max_num_batched_tokens: Some(budget),
            ..Observed::default()
        }
    }

    #[test]
    fn settings_are_the_same_where_both_say_so() {
        let measured = observed(100_000, 2_048);
        assert_eq!(
            difference(&observed(99_000, 2_048), &measured),
            None,
            "memory differs a little"
        );
        assert_eq!(difference(&Observed::default(), &measured), None);
        assert_eq!(
            difference(&observed(50_000, 2_048), &measured).as_deref(),
            Some("KV cache tokens 50000 instead of 100000")
        );
        assert_eq!(
            difference(&observed(100_000, 512), &measured).as_deref(),
            Some("tokens a step 512 instead of 2048")
        );
    }

    #[test]
    fn a_file_that_does_not_run_is_not_confirmed() {
        let refused = Outcome::Refused(SettingFailure {
            class: FailureClass::BadCombination,
            evidence: vec!["no".to_owned()],
            foreseen: None,
        });
        assert_eq!(
            confirm(&refused, &refused).expect_err("it does not run"),
            "it does not run (bad combination): no"
        );
    }
}
