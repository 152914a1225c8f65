//! `graph`: the DAG as Mermaid or DOT.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::Session;
use crate::{
    cli::{GraphFormat, MessageFormat},
    output, stages,
};

/// Prints the DAG of a profile.
pub fn run(profile: &str, language: GraphFormat, format: MessageFormat) -> Result<()> {
    let session = Session::open(profile)?;
    let engine = engines::of(&session.profile, session.root.path())?;
    let context = session.context(&*engine);
    let edges: Vec<(String, Vec<String>)> =
        stages::tasks(&context).iter().map(|task| (task.name().to_owned(), task.needs())).collect();
    if format == MessageFormat::Human {
        return output::print(draw(&edges, language));
    }
    let stages = edges.iter().map(|(name, needs)| json!({ "name": name, "needs": needs }));
    let stages: Vec<_> = stages.collect();
    output::answer("graph", &json!({ "profile": session.profile.name, "stages": stages }))
}

/// Draws stages and what each needs.
fn draw(stages: &[(String, Vec<String>)], format: GraphFormat) -> String {
    let mut out = String::new();
    let (open, close) = match format {
        GraphFormat::Mermaid => ("graph LR\n", ""),
        GraphFormat::Dot => ("digraph suite {\n  rankdir=LR;\n", "}\n"),
    };
    out += open;
    for (name, needs) in stages {
        if needs.is_empty() {
            let _ = match format {
                GraphFormat::Mermaid => writeln!(out, "  {name}"),
                GraphFormat::Dot => writeln!(out, "  {name:?};"),
            };
        }
        for need in needs {
            let _ = match format {
                GraphFormat::Mermaid => writeln!(out, "  {need} --> {name}"),
                GraphFormat::Dot => writeln!(out, "  {need:?} -> {name:?};"),
            };
        }
    }
    out + close
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages() {
        let stages = [
            ("provision".to_owned(), vec![]),
            ("base-line".to_owned(), vec!["provision".to_owned()]),
        ];
        assert_eq!(
            draw(&stages, GraphFormat::Mermaid),
            "graph LR\n  provision\n  provision --> base-line\n"
        );
        assert_eq!(
            draw(&stages, GraphFormat::Dot),
            "digraph suite {\n  rankdir=LR;\n  \"provision\";\n  \"provision\" -> \"base-line\";\n}\n"
        );
    }
}
