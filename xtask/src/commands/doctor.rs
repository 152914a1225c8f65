//! `doctor`: what this machine lacks for a profile, and the command that mends it.

use anyhow::Result;
use bench_core::wrap::wrap;

use serde_json::json;

use super::Root;
use crate::{cli::MessageFormat, output};
use engines::{executor, finding::Finding, vllm};

/// Prints the findings; returns whether all is well.
pub fn run(profile: &str, format: MessageFormat) -> Result<bool> {
    let root = Root::find()?;
    let profile = profile::load(profile, root.given())?;
    let engine = engines::of(&profile, root.path())?;
    let executor = executor::of(&profile, &root.artifacts())?;
    let columns = output::columns();
    let (name, path) = (&profile.name, profile.path.display());
    let next = || match engine.is_simulated() {
        true => after_simulator(vllm::first_gpu()),
        false => format!(
            "`cargo xtask suite --profile {name} --dry-run` says what it takes, and without --dry-run measures"
        ),
    };
    let findings = engine.doctor().into_iter().chain(executor.doctor());
    if format == MessageFormat::Json {
        let findings: Vec<Finding> = findings.collect();
        let well = findings.iter().all(|finding| finding.found.is_ok());
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        let found = json!({
            "profile": name, "file": path.to_string(), "well": well, "findings": findings,
            "next": well.then(next)
        });
        return output::answer("doctor", &found).map(|()| well);
    }
    output::print(wrap(&format!("profile   {name}, as written in {path}"), 1, columns))?;
    let mut well = true;
    for finding in findings {
        well &= finding.found.is_ok();
        output::print(lines(&finding, columns))?;
    }
    if well {
        output::print(wrap(&format!("→ {:<18} {}", "next", next()), 1, columns))?;
    }
    Ok(well)
}

/// What to do on a machine that lacks nothing for the simulator.
fn after_simulator(gpu: Option<String>) -> String {
    match gpu {
        Some(gpu) => format!(
            "`cargo xtask doctor --profile vllm-cuda`, since this machine has GPU {gpu}; \
             `cargo xtask suite` measures nothing real"
        ),
        None => "`cargo xtask suite`, which measures nothing real: no NVIDIA GPU is found here. A real vLLM on the CPU: \
                 `cargo xtask doctor --profile vllm-cpu`"
            .to_owned(),
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    match &finding.found {
        Ok(found) => json!({ "what": finding.what, "found": found }),
        Err(missing) => {
            json!({ "what": finding.what, "missing": missing.what, "fix": missing.fix })
        }
    }
}

/// A finding, and below it how to fix what is missing.
fn lines(finding: &Finding, columns: usize) -> String {
    let line = |mark: &str, what: &str, found: &str| {
        wrap(&format!("{mark} {what:<18} {found}"), 1, columns)
    };
    match &finding.found {
        Ok(found) => line("✓", &finding.what, found),
        Err(missing) => {
            let fix = format!("fix: {}", missing.fix);
            line("✗", &finding.what, &missing.what) + &line(" ", "", &fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use engines::finding::Missing;

    use super::*;

    #[test]
    fn findings_fit_the_terminal() {
        let fix =
            "see `url` in [engine], and what lies between: a firewall, a proxy, a VPN".to_owned();
        let what = "http://gpu-box.example:8000 does not answer an attempt to connect".to_owned();
        let missing = Finding { what: "server".to_owned(), found: Err(Missing { what, fix }) };
        assert_eq!(
            lines(&missing, 80),
            " ✗ server             http://gpu-box.example:8000 does not answer an attempt to\n   \
             connect\n                      fix: see `url` in [engine], and what lies between: a\n   \
             firewall, a proxy, a VPN\n"
        );
        for columns in [60, 80, 200] {
            let all = lines(&missing, columns);
            assert!(all.lines().all(|line| line.chars().count() <= columns), "{all}");
        }
        assert_eq!(lines(&missing, 200).lines().count(), 2, "a wide terminal is used");
    }
}
