//! `report.html`: the Markdown report as one page that needs nothing else, with the plots in it
//! and every trial to look into.

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{Anatomy, Outcome},
    summarize::Series,
};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html::push_html};
use serde::Serialize;

/// The page's parts; `{{NAME}}` in the first is replaced.
const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Digest of what the page is made of, for the key of the stage.
pub fn template_digest() -> Digest {
    Digest::of([PAGE, STYLE, SCRIPT].concat().as_bytes())
}

/// A trial as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct TrialView {
    /// Its key.
    pub key: Digest,
    /// Stage that asked for it first.
    pub stage: String,
    /// Label of the settings.
    pub settings: String,
    /// Name of the load.
    pub load: String,
    /// Which start of the settings, from 0.
    pub start: u32,
    /// The record.
    pub record: Outcome,
    /// What it was over its time, where its samples are here.
    pub series: Option<Series>,
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    parts: [&'static str; 5],
    trials: &'a [TrialView],
}

/// The page of a report in Markdown. `plots` are the drawings that it names, by file name.
///
/// # Errors
/// When a figure of a trial is no number.
pub fn page(markdown: &str, plots: &[(String, String)], trials: &[TrialView]) -> Result<String> {
    let (body, headings) = body(markdown, plots);
    let title = markdown.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    let data = Data { parts: Anatomy::default().parts().map(|(name, _)| name), trials };
    // Nothing in a script element may look like its end.
    let data = serde_json::to_string(&data).context("a trial is not JSON")?.replace('<', "\\u003c");
    let links = headings.iter().map(|(id, text)| format!("<a href=\"#{id}\">{text}</a>\n"));
    let values = [
        ("TITLE", escape(title)),
        ("LINKS", links.collect()),
        ("STYLE", STYLE.to_owned()),
        ("BODY", body),
        ("DATA", data),
        ("SCRIPT", SCRIPT.to_owned()),
    ];
    // Part by part, so that nothing in a value is taken for a name.
    let mut page = String::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("page.html: a name has no end")?;
        let value = values.iter().find(|(known, _)| *known == name);
        page += before;
        page += &value.with_context(|| format!("page.html: nothing is called {name}"))?.1;
        rest = after;
    }
    Ok(page + rest)
}

/// The report as HTML, and its chapters by id and title.
fn body(markdown: &str, plots: &[(String, String)]) -> (String, Vec<(String, String)>) {
    let mut headings: Vec<(String, String)> = Vec::new();
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut beside: Option<String> = None;
    let mut parser = Parser::new_ext(markdown, Options::ENABLE_TABLES).peekable();
    while let Some(event) = parser.next() {
        match event {
            Event::Start(Tag::Heading { level: HeadingLevel::H2, classes, attrs, .. }) => {
                let Some(Event::Text(text)) = parser.peek() else { continue };
                let id = anchor(text);
                headings.push((id.clone(), escape(text)));
                let id = Some(id.into());
                events.push(Event::Start(Tag::Heading {
                    level: HeadingLevel::H2,
                    id,
                    classes,
                    attrs,
                }));
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                let mut title = String::new();
                for event in parser.by_ref() {
                    match event {
                        Event::End(TagEnd::Image) => break,
                        Event::Text(text) => title += &text,
                        _ => {}
                    }
                }
                let svg = plots.iter().find(|(name, _)| **name == *dest_url);
                events.push(Event::InlineHtml(figure(&title, svg.map_or("", |(_, svg)| svg))));
            }
            // A page that is mailed has no files beside it: their names are of use, links are not.
            Event::Start(Tag::Link { ref dest_url, .. }) if is_beside(dest_url) => {
                beside = Some(dest_url.trim_start_matches("../").to_owned());
            }
            Event::End(TagEnd::Link) if beside.is_some() => {
                let file = escape(&beside.take().unwrap_or_default());
                events.push(Event::InlineHtml(format!(": <code>{file}</code>").into()));
            }
            Event::Start(table @ Tag::Table(_)) => {
                events.push(Event::Html(
                    "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table\">"
                        .into(),
                ));
                events.push(Event::Start(table));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(Event::Html("</div>\n".into()));
            }
            event => events.push(event),
        }
    }
    let mut html = String::new();
    push_html(&mut html, events.into_iter());
    (html, headings)
}

/// A drawing with its name for those who do not see it.
fn figure(title: &str, svg: &str) -> CowStr<'static> {
    let title = escape(title);
    let named = format!("<svg tabindex=\"0\" role=\"group\" aria-label=\"{title}\" ");
    let width = svg.split_once("width=\"").and_then(|(_, rest)| rest.split_once('"'));
    let width = width.map_or(String::new(), |(px, _)| format!(" style=\"--width:{px}\""));
    format!("<span class=\"plot\"{width}>{}</span>", svg.replacen("<svg ", &named, 1)).into()
}

/// Whether a link is to another file of the project.
fn is_beside(link: &str) -> bool {
    !link.starts_with('#') && !link.contains("://")
}

fn anchor(title: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    title.chars().map(plain).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKDOWN: &str = "# A & B\n\n## In short\n\n([how](../../docs/a.md#b), [site](https://vllm.ai))\n\n![Sum](s.svg)\n\n| a | b |\n| --- | ---: |\n| <i> | 2 |\n";

    #[test]
    fn the_page_holds_all_it_needs() {
        let plots = [("s.svg".to_owned(), "<svg width=\"1\"></svg>".to_owned())];
        let page = page(MARKDOWN, &plots, &[]).expect("a page");
        for part in [
            "<title>A &amp; B</title>",
            "<a href=\"#in-short\">In short</a>",
            "<h2 id=\"in-short\">In short</h2>",
            "aria-label=\"Sum\" width=\"1\"></svg>",
            "(how: <code>docs/a.md#b</code>, <a href=\"https://vllm.ai\">site</a>)",
            "style=\"--width:1\"",
            "<td style=\"text-align: right\">2</td>",
            "\"trials\":[]",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("{{"), "every name has its value");
        for outside in ["src=", "url(", "@import", "http://www.w3.org/1999/xlink"] {
            assert!(!page.contains(outside), "{outside}: the page must need nothing else");
        }
    }
}
