//! How many servers and cards a traffic takes, in words.

use bench_core::schema::{Fleet, Servers, Traffic};

use crate::format::{self, NOTHING};

/// Of a setting that no number of servers makes enough.
pub const NO_RATE: &str = "no rate within the limits";

/// What the traffic takes of each of these configurations, as a section of a page; money where somebody says what a
/// card costs.
pub fn section(traffic: &Traffic, configurations: &[&str]) -> String {
    let has_price = traffic.fleets.iter().any(|fleet| fleet.servers.dollars_per_hour.is_some());
    let columns =
        ["Configuration", "> Servers", "> Cards", "> An hour", "> A million output tokens"];
    let shown = if has_price { columns.len() } else { 3 };
    let row = |label: &&str| {
        let fleet = traffic.fleets.iter().find(|fleet| fleet.label == **label);
        let Some(fleet) = fleet else {
            let mut cells = vec![(*label).to_owned(), NO_RATE.to_owned()];
            cells.resize(shown, NOTHING.to_owned());
            return cells;
        };
        let cells = [
            fleet.label.clone(),
            count(fleet, |n| n.servers),
            count(fleet, |n| n.cards),
            dollars(fleet, |n| n.dollars_per_hour),
            dollars(fleet, |n| n.dollars_per_million_output_tokens),
        ];
        cells[..shown].to_vec()
    };
    let header: Vec<String> = columns[..shown].iter().map(|title| (*title).to_owned()).collect();
    let reserve = match traffic.reserve_servers {
        0 => String::new(),
        n => format!(", and {n} in reserve"),
    };
    let money = if has_price {
        " Money is that of all these cards while the\ntraffic is at that rate."
    } else {
        ""
    };
    format!(
        "\n## Servers for {} requests/s\n\n{}\nThe traffic over the rate that a server sustains, rounded up{reserve}. In \
         parentheses the same by the ends of its interval: from the\nupper end of the 95 % interval of the next higher rate \
         tried to the lower end of the 95 % prediction interval of one more\nserver (of a single start the rate itself: \
         how much servers differ is then not in the range). It is assumed that a balancer\nspreads the requests evenly over \
         servers that each sustain what one was measured to.{money}\n",
        traffic.requests_per_s,
        format::table(&header, &configurations.iter().map(row).collect::<Vec<_>>())
    )
}

/// `4 (3 to 5)`, `4` where the range is one number, `4 (3 or more)` where the interval reaches zero.
pub fn count(fleet: &Fleet, of: impl Fn(&Servers) -> u32) -> String {
    let shown = |n: u32| format::number(f64::from(n), 0);
    let ends = [&fleet.fewest, &fleet.most].map(|end| end.as_ref().map(|n| shown(of(n))));
    with_range(shown(of(&fleet.servers)), ends)
}

/// The same of money, to the cent or three digits; [`NOTHING`] where nobody says what a card costs.
pub fn dollars(fleet: &Fleet, of: impl Fn(&Servers) -> Option<f64>) -> String {
    let Some(found) = of(&fleet.servers) else { return NOTHING.to_owned() };
    let decimals = format::decimals(found).max(2);
    let shown = |dollars: f64| format!("${}", format::number(dollars, decimals));
    let ends = [&fleet.fewest, &fleet.most].map(|end| end.as_ref().and_then(&of).map(shown));
    with_range(shown(found), ends)
}

fn with_range(found: String, ends: [Option<String>; 2]) -> String {
    match ends {
        [Some(low), Some(high)] if low == high => found,
        [Some(low), Some(high)] => format!("{found} ({low} to {high})"),
        [Some(low), None] => format!("{found} ({low} or more)"),
        [None, Some(high)] if high == found => format!("{found} or fewer"),
        [None, Some(high)] => format!("{found} ({high} or fewer)"),
        [None, None] => format!("{found} (range not known)"),
    }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::Role;

    use super::*;

    #[test]
    fn a_configuration_that_sustains_no_rate_has_its_row() {
        let servers = |servers: u32| Servers {
            servers,
            cards: servers,
            dollars_per_hour: Some(2.0),
            dollars_per_million_output_tokens: Some(0.5),
        };
        let tuned = Fleet {
            label: "tuned".to_owned(),
            role: Role::Tuned,
            cards_per_server: 1,
            servers: servers(4),
            fewest: Some(servers(3)),
            most: Some(servers(4)),
        };
        let traffic = Traffic { requests_per_s: 9.0, reserve_servers: 0, fleets: vec![tuned] };
        let page = section(&traffic, &["baseline", "tuned"]).replace('\u{a0}', " ");
        for row in [
            format!("| baseline | no rate within the limits | {NOTHING} | {NOTHING} | {NOTHING} |"),
            "| tuned | 4 (3 to 4) | 4 (3 to 4) | $2.00 | $0.500 |".to_owned(),
        ] {
            assert!(page.lines().any(|line| line == row), "{row}\n{page}");
        }
    }
}
