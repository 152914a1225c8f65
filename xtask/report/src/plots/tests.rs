use bench_core::schema::{Anatomy, Column, FailureClass, Point, SettingFailure};
use proptest::prelude::*;
use tiny_skia::Rect;

use super::{
    Drawing, Reference, draw_all,
    fixture::{Results, crowded, estimate, results, sparse},
    png,
    png::{Sheet, Text},
};

fn drawings(results: &Results) -> Vec<Drawing> {
    draw_all(&results.inputs()).expect("names differ")
}

/// Texts that reach over the edge by more than `slack` pixels.
fn cut_off(sheet: &Sheet, slack: f32) -> Vec<&str> {
    let (width, height) = (f32::from(sheet.width) + slack, f32::from(sheet.height) + slack);
    let cut = |r: &Rect| {
        r.left() < -slack || r.top() < -slack || r.right() > width || r.bottom() > height
    };
    let texts = sheet.texts.iter().filter(|text| cut(&text.bounds));
    texts.map(|text| &*text.content).collect()
}

/// Pairs of texts that share more than a hairline.
fn overlapping(sheet: &Sheet) -> Vec<(&str, &str)> {
    const SLACK: f32 = 2.0;
    let mut pairs = Vec::new();
    for (i, Text { content, bounds: a }) in sheet.texts.iter().enumerate() {
        for Text { content: other, bounds: b } in &sheet.texts[i + 1..] {
            let across = a.right().min(b.right()) - a.left().max(b.left());
            let down = a.bottom().min(b.bottom()) - a.top().max(b.top());
            if across > SLACK && down > SLACK {
                pairs.push((&**content, &**other));
            }
        }
    }
    pairs
}

#[test]
fn drawings_are_fixed() {
    for drawing in drawings(&results()) {
        insta::assert_snapshot!(drawing.name, drawing.svg);
    }
}

/// Results whose drawings are looked at, by name.
fn looked_at() -> [(&'static str, Results); 3] {
    [("", results()), ("sparse_", sparse()), ("crowded_", crowded())]
}

/// `PLOTS_OUT=DIR cargo test --workspace plots` leaves the pictures there, to be looked at.
#[test]
fn every_drawing_becomes_a_picture() {
    let folder = std::env::var_os("PLOTS_OUT").map(std::path::PathBuf::from);
    // What is drawn of others are the same elements elsewhere.
    let sets = if folder.is_some() { 3 } else { 1 };
    for (prefix, results) in looked_at().into_iter().take(sets) {
        for Drawing { name, svg } in drawings(&results) {
            let picture = png(&svg).expect("a drawing is an SVG");
            assert_eq!(&picture[1..4], b"PNG");
            if let Some(folder) = &folder {
                std::fs::write(folder.join(format!("{prefix}{name}.png")), picture)
                    .expect("the folder can be written");
            }
        }
    }
}

#[test]
fn no_text_is_cut_off_or_overlaps_another() {
    for (prefix, results) in looked_at() {
        for Drawing { name, svg } in drawings(&results) {
            let sheet = Sheet::read(&svg).expect("a drawing is an SVG");
            assert_eq!(cut_off(&sheet, 0.0), Vec::<&str>::new(), "{prefix}{name}: cut off");
            assert_eq!(overlapping(&sheet), Vec::new(), "{prefix}{name}: overlap");
        }
    }
}

#[test]
fn no_text_of_an_ordinary_suite_is_shortened() {
    for Drawing { name, svg } in drawings(&results()) {
        assert!(!svg.contains('…'), "{name}");
    }
}

#[test]
fn titles_say_what_was_measured_and_that_it_is_simulated() {
    let mut results = results();
    results.baseline.header.engine.title = "H100 80GB, Qwen2.5-7B".to_owned();
    for Drawing { name, svg } in drawings(&results) {
        assert!(svg.contains("simulated H100 80GB, Qwen2.5-7B"), "{name}");
    }
    results.baseline.header.engine.simulated = false;
    for Drawing { name, svg } in drawings(&results) {
        assert!(!svg.contains("simulated"), "{name}");
    }
}

/// Where nothing was a candidate no table has a column or a title of one.
#[test]
fn without_a_candidate_none_is_named() {
    let mut results = results();
    results.comprehensive = None;
    for row in &mut results.comparisons {
        row.columns.remove(&Column::Tuned);
        (row.change, row.verdict) = (None, None);
    }
    results.targets.iter_mut().for_each(|target| drop(target.columns.remove(&Column::Tuned)));
    let drawings = drawings(&results);
    for Drawing { name, svg } in &drawings {
        for word in ["andidate", "uned"] {
            assert!(!svg.contains(word), "{name}: {word}");
        }
    }
    let dashboard = drawings.iter().find(|drawing| drawing.name.ends_with("dashboard"));
    assert!(dashboard.is_some_and(|drawing| drawing.svg.contains("Verdicts against vLLM default")));
}

#[test]
fn the_figures_beside_have_the_name_that_the_profile_gives_them() {
    let named = |results: &Results, text: &str| {
        drawings(results).into_iter().filter(|d| d.svg.contains(text)).count()
    };
    let mut results = results();
    assert_eq!(named(&results, "Week 2 (other hardware and load)"), 3);
    results.reference = Some(Reference { name: "march", legend: "march" });
    assert_eq!((named(&results, "march"), named(&results, "Week 2")), (7, 0));
    for row in &mut results.comparisons {
        row.columns.retain(|column, _| *column != Column::Week2);
    }
    // The head of a column stays, as long as there is one.
    assert_eq!(named(&results, "march"), 1);
    results.reference = None;
    assert_eq!((named(&results, "march"), named(&results, "Week 2")), (0, 0));
}

#[test]
fn sweeps_of_one_file_name_are_refused() {
    let mut results = results();
    let mut twin = results.sweeps[0].clone();
    twin.header.stage = "max_num_seqs".to_owned();
    results.sweeps.push(twin);
    let error = draw_all(&results.inputs()).expect_err("two plots would share a file");
    insta::assert_snapshot!(
        error,
        @"sweep max_num_seqs: its plot has the same file name as another's (sweep_max_num_seqs); rename one"
    );
}

/// A way in which results can be odd.
#[derive(Clone, Debug)]
enum Oddity {
    Remove(usize),
    Fail(usize),
    Saturate(usize),
    NoAnatomy(usize),
    Parts(usize, f64),
    Figures(usize, f64),
    Label(usize, String),
    Load(usize, String),
    NoChoice,
    NoComprehensive,
    NoComparison,
    NoBaseline,
    FewPoints(usize),
}

fn oddity() -> impl Strategy<Value = Oddity> {
    let number = prop_oneof![any::<f64>(), -1e4..1e7, Just(0.0)];
    prop_oneof![
        any::<usize>().prop_map(Oddity::Remove),
        any::<usize>().prop_map(Oddity::Fail),
        any::<usize>().prop_map(Oddity::Saturate),
        any::<usize>().prop_map(Oddity::NoAnatomy),
        (any::<usize>(), number.clone()).prop_map(|(i, x)| Oddity::Parts(i, x)),
        (any::<usize>(), number).prop_map(|(i, x)| Oddity::Figures(i, x)),
        (any::<usize>(), ".{0,60}").prop_map(|(i, text)| Oddity::Label(i, text)),
        (any::<usize>(), "[a-z <&-]{0,40}").prop_map(|(i, text)| Oddity::Load(i, text)),
        Just(Oddity::NoChoice),
        Just(Oddity::NoComprehensive),
        Just(Oddity::NoComparison),
        Just(Oddity::NoBaseline),
        (0..4_usize).prop_map(Oddity::FewPoints),
    ]
}

fn files(results: &mut Results) -> impl Iterator<Item = &mut Vec<Point>> {
    let Results { baseline, sweeps, comprehensive, .. } = results;
    let sweeps = sweeps.iter_mut().map(|file| &mut file.points);
    let judged = comprehensive.as_mut().map(|file| &mut file.points);
    std::iter::once(&mut baseline.points).chain(sweeps).chain(judged)
}

fn apply(results: &mut Results, oddity: Oddity) {
    let count = files(results).map(|points| points.len()).sum::<usize>().max(1);
    let mut with = |index: usize, change: &dyn Fn(&mut Point)| {
        if let Some(point) = files(results).flatten().nth(index % count) {
            change(point);
        }
    };
    match oddity {
        Oddity::Remove(i) => {
            let points = files(results).nth(i % 6);
            points.into_iter().for_each(|points| {
                if !points.is_empty() {
                    points.remove(i % points.len());
                }
            });
        }
        Oddity::Fail(i) => with(i, &|point| {
            point.failure = Some(SettingFailure {
                class: FailureClass::OutOfMemory,
                evidence: Vec::new(),
                foreseen: None,
            });
        }),
        Oddity::Saturate(i) => with(i, &|point| point.saturated = true),
        Oddity::NoAnatomy(i) => with(i, &|point| point.anatomy = None),
        Oddity::Parts(i, ms) => with(i, &|point| {
            point.anatomy = Some(Anatomy { queue_ms: ms, decode_ms: ms, ..Anatomy::default() });
        }),
        Oddity::Figures(i, mean) => with(i, &|point| {
            for figure in point.metrics.values_mut() {
                *figure = estimate(mean, 0.5);
            }
        }),
        Oddity::Label(i, label) => with(i, &|point| point.label.clone_from(&label)),
        Oddity::Load(i, load) => with(i, &|point| point.load.clone_from(&load)),
        Oddity::NoChoice => results.sweeps.iter_mut().for_each(|sweep| sweep.choice = None),
        Oddity::NoComprehensive => results.comprehensive = None,
        Oddity::NoComparison => {
            results.comparisons.clear();
            results.targets.clear();
        }
        Oddity::NoBaseline => results.baseline.points.clear(),
        Oddity::FewPoints(n) => files(results).for_each(|points| points.truncate(n)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn odd_results_are_drawn_too(oddities in prop::collection::vec(oddity(), 0..12)) {
        let mut results = results();
        for oddity in oddities {
            apply(&mut results, oddity);
        }
        for Drawing { name, svg } in drawings(&results) {
            prop_assert!(svg.len() < 300_000, "{name}: {} bytes", svg.len());
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
            let sheet = Sheet::read(&svg).expect("a drawing is an SVG");
            prop_assert_eq!(cut_off(&sheet, 8.0), Vec::<&str>::new(), "{}", name);
        }
    }
}
