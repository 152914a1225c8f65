//! Throughput of the configurations under every load: grouped bars with intervals.

use super::{
    Inputs,
    canvas::Rect,
    configurations,
    data::spread,
    panel::{Key, legend, page},
    style::CONFIGURATIONS,
};

const METRICS: [&str; 2] = ["output_tokens_per_s", "requests_per_s"];

pub(super) fn draw(inputs: &Inputs<'_>) -> String {
    let subtitle = format!("{} · {}", inputs.engine(), spread(inputs.configurations()));
    page((1200, 750), "Throughput by load", &subtitle, |canvas, body| {
        let shown: Vec<(&str, &str)> = METRICS
            .into_iter()
            .flat_map(|metric| inputs.loads(metric).into_iter().map(move |load| (metric, load)))
            .collect();
        let mut entries = configurations::keys(inputs, |i| Key::Box(CONFIGURATIONS[i].1));
        entries.extend(configurations::reference_key(inputs, &shown));
        entries.extend(configurations::target_key(inputs, &shown));
        let loads: Vec<&str> = shown.iter().map(|(_, load)| *load).collect();
        entries.extend(configurations::saturated_key(inputs, &loads));
        let top = body.top + legend(canvas, body, &entries) + 14;
        let middle = top + (body.bottom - top) * 54 / 100;
        let cells = [Rect { top, bottom: middle - 8, ..body }, Rect { top: middle + 8, ..body }];
        for (metric, cell) in METRICS.into_iter().zip(cells) {
            configurations::bars(inputs, canvas, cell, metric, &inputs.loads(metric), &[]);
        }
    })
}
