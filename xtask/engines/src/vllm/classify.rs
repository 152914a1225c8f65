//! What a server's log says: why it did not start or died, and what its settings became.
//!
//! Pure: text in, verdict out. The texts are vLLM's own (0.22.1 and 0.32.0).

use bench_core::schema::{FailureClass, Observed, SettingFailure};

use crate::{Ended, server::Failure};

/// From here on a log is of a server that serves.
const SERVING: &str = "Application startup complete";

/// Memory that a machine's own system may use before a neighbour must be blamed, in GiB.
const GPU_OWN_USE_GIB: f64 = 2.0;
const CPU_OWN_USE_GIB: f64 = 4.0;

/// Lines of evidence, and characters of each.
const EVIDENCE_LINES_MAX: usize = 3;
const EVIDENCE_CHARS_MAX: usize = 400;

/// A text of vLLM and what it means.
struct Rule {
    needle: &'static str,
    means: Means,
}

enum Means {
    Setting(FailureClass),
    /// Out of GPU memory: which kind depends on what the server was doing.
    OutOfMemory,
    /// Less memory free than asked for: a neighbour's fault or the setting's.
    NotFree {
        /// What the machine's own system may use.
        own_use_gib: f64,
    },
    Environment(&'static str),
}

/// The most telling first: the first rule that matches any line decides.
const RULES: &[Rule] = &[
    Rule {
        needle: "out of memory occurred when warming up",
        means: Means::Setting(FailureClass::SamplerWarmUp),
    },
    Rule {
        needle: "No available memory for the cache blocks",
        means: Means::Setting(FailureClass::KvCacheMemory),
    },
    Rule {
        needle: "To serve at least one request with the model's max seq len",
        means: Means::Setting(FailureClass::KvCacheMemory),
    },
    // The share asked for does not even hold the process itself.
    Rule {
        needle: "is less than requested memory for kv (-",
        means: Means::Setting(FailureClass::KvCacheMemory),
    },
    Rule {
        needle: "Decrease --kv-cache-memory-bytes",
        means: Means::Setting(FailureClass::KvCacheMemory),
    },
    Rule {
        needle: "on kv cache allocation is less than requested memory for kv",
        means: Means::NotFree { own_use_gib: CPU_OWN_USE_GIB },
    },
    Rule {
        needle: "less than desired GPU memory utilization",
        means: Means::NotFree { own_use_gib: GPU_OWN_USE_GIB },
    },
    Rule {
        needle: "less than desired CPU memory utilization",
        means: Means::NotFree { own_use_gib: CPU_OWN_USE_GIB },
    },
    Rule {
        needle: "Failed to load model - not enough GPU memory",
        means: Means::Setting(FailureClass::ModelMemory),
    },
    Rule { needle: "OutOfMemoryError", means: Means::OutOfMemory },
    Rule { needle: "CUDA out of memory", means: Means::OutOfMemory },
    Rule { needle: "CUDA error: out of memory", means: Means::OutOfMemory },
    Rule {
        needle: "is greater than the derived max_model_len",
        means: Means::Setting(FailureClass::MaxModelLen),
    },
    Rule {
        needle: "Address already in use",
        means: Means::Environment("another program took the port; start again"),
    },
    Rule {
        needle: "No space left on device",
        means: Means::Environment("free disk space, /tmp and /dev/shm included, and start again"),
    },
    Rule {
        needle: "Too many open files",
        means: Means::Environment("raise the limit with `ulimit -n 65536` and start again"),
    },
    Rule {
        needle: "CUDA driver version is insufficient",
        means: Means::Environment("update the NVIDIA driver, or install a vLLM for an older CUDA"),
    },
    Rule {
        needle: "No CUDA GPUs are available",
        means: Means::Environment("check `gpus` in the profile against `nvidia-smi -L`"),
    },
    Rule {
        needle: "Found no NVIDIA driver",
        means: Means::Environment("install the NVIDIA driver, or use profile vllm-cpu"),
    },
    Rule {
        needle: "CUDA error:",
        means: Means::Environment("look at `nvidia-smi -q` and the kernel's log for GPU faults"),
    },
    Rule {
        needle: "unrecognized arguments:",
        means: Means::Environment("check the flag's name with `vllm serve --help=all`"),
    },
    Rule {
        needle: "api_server.py: error: argument",
        means: Means::Environment("check the flag's value with `vllm serve --help=all`"),
    },
    Rule {
        needle: "Repo id must be in the form",
        means: Means::Environment(
            "check `model` in the profile: it is neither a folder nor a hub id",
        ),
    },
    Rule {
        needle: "Can't load the configuration of",
        means: Means::Environment("check `model` in the profile: the folder needs a config.json"),
    },
    Rule {
        needle: "Invalid repository ID or local directory specified",
        means: Means::Environment(
            "check `model` in the profile: it is neither a folder nor a hub id",
        ),
    },
    Rule {
        needle: "Cannot find any model weights with",
        means: Means::Environment(
            "the model's folder has no weights; download them, or use a dummy",
        ),
    },
    Rule {
        needle: "validation error for ModelConfig",
        means: Means::Environment("this vLLM cannot serve the model as it is: read the log"),
    },
    Rule { needle: "validation error for", means: Means::Setting(FailureClass::BadCombination) },
    Rule {
        needle: "must be greater than or equal to max_num_seqs",
        means: Means::Setting(FailureClass::BadCombination),
    },
    Rule {
        needle: "ModuleNotFoundError:",
        means: Means::Environment(
            "the installation is incomplete; remove its folder and provision again",
        ),
    },
    Rule {
        needle: "ImportError:",
        means: Means::Environment(
            "the installation is broken; remove its folder and provision again",
        ),
    },
];

/// Why a server failed, from its log and the way it ended.
///
/// The cause comes from the engine's process, long before the last line of the log; so the whole
/// log is searched, for the most telling text first. Of a server that has served, only running
/// out of memory is the setting's.
pub fn classify(log: &str, ended: Option<Ended>) -> Failure {
    let (log, serving) = match log.rsplit_once(SERVING) {
        Some((_, load)) => (load, true),
        None => (log, false),
    };
    let killed = ended == Some(Ended::Signal(9))
        || log.lines().any(|line| line.contains("Failed core proc(s): {") && line.contains(": -9"));
    let decided = RULES.iter().find_map(|rule| {
        let line = errors(log).find(|line| line.contains(rule.needle))?;
        judge(rule, line, log, serving)
    });
    match decided {
        Some(failure) => failure,
        None if killed => Failure::Killed,
        None => Failure::Unknown { last_error: last_error(log) },
    }
}

/// `None` when the rule does not apply to a server in that state.
fn judge(rule: &Rule, line: &str, log: &str, serving: bool) -> Option<Failure> {
    let setting = |class| {
        Failure::Setting(SettingFailure { class, evidence: evidence(log, rule), foreseen: None })
    };
    match rule.means {
        Means::OutOfMemory if serving => Some(setting(FailureClass::OutOfMemory)),
        Means::OutOfMemory => Some(setting(memory_class(log))),
        Means::Setting(_) | Means::NotFree { .. } if serving => None,
        Means::Setting(class) => Some(setting(class)),
        Means::NotFree { own_use_gib } => Some(match used_by_others_gib(line) {
            Some(used) if used > own_use_gib => Failure::Environment {
                what: shorten(line),
                advice: "end what else uses the device's memory, or use another device",
            },
            _ => setting(FailureClass::KvCacheMemory),
        }),
        Means::Environment(advice) => Some(Failure::Environment { what: shorten(line), advice }),
    }
}

/// What a starting server ran out of memory for.
fn memory_class(log: &str) -> FailureClass {
    let has = |text: &str| log.contains(text);
    if has("in capture_model") || has("in _capture_cudagraphs") {
        FailureClass::GraphCapture
    } else if has("in _dummy_sampler_run") {
        FailureClass::SamplerWarmUp
    } else if has("Model loading took") {
        FailureClass::KvCacheMemory
    } else {
        FailureClass::ModelMemory
    }
}

/// From `… (72.15/79.18 GiB) …`: what is taken of the total.
fn used_by_others_gib(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once('(')?;
    let (figures, _) = rest.split_once(" GiB)")?;
    let (free, total) = figures.split_once('/')?;
    Some(total.parse::<f64>().ok()? - free.parse::<f64>().ok()?)
}

/// The lines that prove it, each once; after a validation error, what it says.
fn evidence(log: &str, rule: &Rule) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut follows_validation_error = false;
    for line in errors(log) {
        let proves = line.contains(rule.needle);
        let is_new = !lines.iter().any(|known| *known == shorten(line));
        if (proves || follows_validation_error) && is_new && lines.len() < EVIDENCE_LINES_MAX {
            lines.push(shorten(line));
        }
        follows_validation_error = proves && line.contains("validation error for");
    }
    lines
}

/// The messages that may tell of a failure. Every healthy log warns of `[Errno 24] Too many
/// open files`, so what vLLM logs below the level ERROR is left out.
fn errors(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| !(line.contains("WARNING ") || line.contains(" INFO "))).map(message)
}

/// A line without the names of process, time and source in front.
fn message(line: &str) -> &str {
    let mut rest = line.trim();
    if rest.starts_with('(')
        && let Some((head, tail)) = rest.split_once(") ")
        && head.contains(" pid=")
    {
        rest = tail.trim_start();
    }
    let is_logged = ["INFO ", "WARNING ", "ERROR "].iter().any(|level| rest.starts_with(level));
    match rest.split_once("] ") {
        Some((_, tail)) if is_logged => tail.trim_start(),
        _ => rest,
    }
}

fn shorten(line: &str) -> String {
    // What pydantic was given follows its message, and holds folders.
    let line = line.split(" [type=").next().unwrap_or(line);
    match line.char_indices().nth(EVIDENCE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn last_error(log: &str) -> Option<String> {
    let is_error = |line: &&str| {
        let first = line.split([':', ' ']).next().unwrap_or_default();
        first.ends_with("Error") || first.ends_with("Exception")
    };
    errors(log).filter(is_error).last().map(shorten)
}

/// What the log says of the resolved settings.
pub fn observe(log: &str) -> Observed {
    let every =
        |text| log.lines().map(message).filter_map(move |line| Some(line.split_once(text)?.1));
    let after = |text| every(text).next();
    let numbers = |text| {
        every(text).filter_map(|rest: &str| -> Option<u64> {
            let is_part = |c: &char| c.is_ascii_digit() || *c == ',';
            let digits = rest.chars().take_while(is_part).filter(char::is_ascii_digit);
            digits.collect::<String>().parse().ok()
        })
    };
    let attention_backend = log.lines().map(message).find_map(|line| {
        let name = line.strip_prefix("Using ")?.split_once(" attention backend")?.0;
        (!name.contains(' ')).then(|| name.to_owned())
    });
    Observed {
        version: after("Initializing a V1 LLM engine (v")
            .and_then(|rest| Some(rest.split_once(')')?.0.to_owned())),
        // Every engine says that of its own.
        kv_cache_tokens: numbers("KV cache size: ").reduce(|a, b| a + b),
        max_num_batched_tokens: numbers("Chunked prefill is enabled with max_num_batched_tokens=")
            .next(),
        attention_backend,
        ..Observed::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real logs, shortened: `h100-*` of vLLM 0.22.1, `cpu-*` of vllm-cpu 0.32.0.
    macro_rules! log {
        ($name:literal) => {
            include_str!(concat!("testdata/", $name, ".log"))
        };
    }

    fn setting(log: &str) -> (FailureClass, Vec<String>) {
        match classify(log, Some(Ended::Code(1))) {
            Failure::Setting(SettingFailure { class, evidence, .. }) => (class, evidence),
            other => panic!("not the setting's: {other:?}"),
        }
    }

    fn environment(log: &str) -> (String, &'static str) {
        match classify(log, Some(Ended::Code(1))) {
            Failure::Environment { what, advice } => (what, advice),
            other => panic!("not the environment's: {other:?}"),
        }
    }

    #[test]
    fn failures_of_the_setting_on_real_logs() {
        let found = [
            ("bad combination, H100", setting(log!("h100-bad_combination"))),
            ("bad combination, CPU", setting(log!("cpu-bad_combination"))),
            ("max-model-len, H100", setting(log!("h100-max_model_len_over_config"))),
            ("max-model-len, CPU", setting(log!("cpu-max_model_len"))),
            ("utilization 0.17, H100", setting(log!("h100-no_kv_memory_util_0.17"))),
            ("utilization 0.20, H100", setting(log!("h100-no_kv_memory_util_0.20"))),
            ("utilization 0.01, CPU", setting(log!("cpu-kv_utilization_001"))),
            ("64 KiB for the cache, CPU", setting(log!("cpu-kv_bytes_small"))),
        ];
        insta::assert_debug_snapshot!(found);
    }

    #[test]
    fn failures_of_the_environment_on_real_logs() {
        let found = [
            ("a neighbour on the GPU", environment(log!("h100-gpu_taken"))),
            ("port in use", environment(log!("cpu-port_in_use"))),
            ("wrong model", environment(log!("cpu-wrong_model"))),
        ];
        insta::assert_debug_snapshot!(found);
    }

    #[test]
    fn a_healthy_log_proves_nothing_and_tells_the_resolved_settings() {
        let unknown = Failure::Unknown { last_error: None };
        let logs = [
            log!("h100-started_max_num_seqs_4096"),
            log!("h100-started_budget_262144"),
            log!("cpu-ok"),
        ];
        for log in logs {
            assert_eq!(classify(log, None), unknown);
        }
        assert_eq!(classify(log!("cpu-ok"), Some(Ended::Signal(9))), Failure::Killed);
        insta::assert_debug_snapshot!(logs.map(observe));
    }

    #[test]
    fn little_in_use_is_no_neighbour() {
        let line = "ValueError: Free memory on device cuda:0 (78.64/79.18 GiB) on startup is less \
                    than desired GPU memory utilization (0.998, 79.02 GiB). Decrease it";
        assert_eq!(setting(line).0, FailureClass::KvCacheMemory);
        assert_eq!(environment(&line.replace("78.64", "70.00")).0, line.replace("78.64", "70.00"));
    }

    #[test]
    fn what_ran_out_of_memory_depends_on_what_was_done() {
        let oom = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.";
        let class = |before: &str| setting(&format!("{before}\n{oom}")).0;
        assert_eq!(class("Starting to load model"), FailureClass::ModelMemory);
        assert_eq!(class("Model loading took 14.29 GiB"), FailureClass::KvCacheMemory);
        assert_eq!(class("line 1, in capture_model"), FailureClass::GraphCapture);
        assert_eq!(class("INFO:     Application startup complete."), FailureClass::OutOfMemory);
    }

    #[test]
    fn the_caches_of_all_engines_are_counted() {
        let line = |engine: u32| {
            format!(
                "(EngineCore_DP{engine} pid=7{engine}) INFO 11-29 18:00:0{engine} \
                 [kv_cache_utils.py:1733] GPU KV cache size: 2,085,488 tokens\n"
            )
        };
        assert_eq!(observe(&line(0)).kv_cache_tokens, Some(2_085_488));
        assert_eq!(observe(&(line(0) + &line(1))).kv_cache_tokens, Some(4_170_976));
        assert_eq!(observe("nothing of it").kv_cache_tokens, None);
    }

    #[test]
    fn a_setting_is_not_to_blame_once_the_server_serves() {
        let log = "INFO:     Application startup complete.\nValueError: No available memory for \
                   the cache blocks.";
        let expected = "ValueError: No available memory for the cache blocks.".to_owned();
        assert_eq!(
            classify(log, Some(Ended::Code(1))),
            Failure::Unknown { last_error: Some(expected) }
        );
    }
}
