//! Models: a folder, a hub id with its revision, or the shape of a known model with made-up
//! weights, for which everything but the weights is written here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::canonical::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{last_line, read_json, write_json};

/// The scheme of models with made-up weights: `dummy:qwen2.5-7b`.
const DUMMY: &str = "dummy:";

/// Where a shape's tokenizer lies in its folder. Apart from `config.json`: beside the `qwen2` of
/// `model_type`, transformers 5 would read any tokenizer as Qwen's own, and find no token in text.
pub(super) const TOKENIZER: &str = "tokenizer";

/// Raised by hand when the files of a shape are written differently; a test watches.
const SHAPE_FORMAT: u32 = 2;

/// The dimensions of a transformer: what its speed and memory depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Name after `dummy:`.
    pub name: &'static str,
    /// Which of vLLM's model classes serves it.
    architecture: &'static str,
    model_type: &'static str,
    /// `hidden_size`.
    pub hidden_size: u32,
    /// `intermediate_size`.
    pub intermediate_size: u32,
    /// `num_hidden_layers`.
    pub layers: u32,
    /// `num_attention_heads`.
    pub attention_heads: u32,
    /// `num_key_value_heads`.
    pub key_value_heads: u32,
    /// `vocab_size`.
    pub vocab_size: u32,
    /// First of the two special tokens; ordinary tokens have the numbers below.
    first_special_token: u32,
    max_position_embeddings: u32,
    rope_theta: u32,
    tie_word_embeddings: bool,
}

/// Every known shape. The dimensions are those of the `config.json` that each model publishes.
pub const SHAPES: [Shape; 4] = [
    Shape {
        name: "tiny",
        architecture: "LlamaForCausalLM",
        model_type: "llama",
        hidden_size: 256,
        intermediate_size: 512,
        layers: 2,
        attention_heads: 4,
        key_value_heads: 2,
        vocab_size: 4_096,
        first_special_token: 4_094,
        max_position_embeddings: 8_192,
        rope_theta: 10_000,
        tie_word_embeddings: true,
    },
    Shape {
        name: "qwen2.5-1.5b",
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        hidden_size: 1_536,
        intermediate_size: 8_960,
        layers: 28,
        attention_heads: 12,
        key_value_heads: 2,
        vocab_size: 151_936,
        first_special_token: 151_643,
        max_position_embeddings: 32_768,
        rope_theta: 1_000_000,
        tie_word_embeddings: true,
    },
    Shape {
        name: "qwen2.5-7b",
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        hidden_size: 3_584,
        intermediate_size: 18_944,
        layers: 28,
        attention_heads: 28,
        key_value_heads: 4,
        vocab_size: 152_064,
        first_special_token: 151_643,
        max_position_embeddings: 32_768,
        rope_theta: 1_000_000,
        tie_word_embeddings: false,
    },
    Shape {
        name: "llama-3.1-8b",
        architecture: "LlamaForCausalLM",
        model_type: "llama",
        hidden_size: 4_096,
        intermediate_size: 14_336,
        layers: 32,
        attention_heads: 32,
        key_value_heads: 8,
        vocab_size: 128_256,
        first_special_token: 128_000,
        max_position_embeddings: 131_072,
        rope_theta: 500_000,
        tie_word_embeddings: false,
    },
];

impl Shape {
    /// The contents of `config.json`.
    fn config(&self) -> Value {
        json!({
            "architectures": [self.architecture],
            "attention_dropout": 0.0,
            "bos_token_id": self.first_special_token,
            "eos_token_id": self.first_special_token + 1,
            "head_dim": self.hidden_size / self.attention_heads,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": self.model_type,
            "num_attention_heads": self.attention_heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.key_value_heads,
            "rms_norm_eps": if self.model_type == "qwen2" { 1e-6 } else { 1e-5 },
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "bfloat16",
            "use_cache": true,
            "vocab_size": self.vocab_size,
        })
    }

    /// The contents of `tokenizer.json`: one token a word, `w17` for token 17. Every token is
    /// whole text by itself, so that no answer is held back until a character is complete.
    fn tokenizer(&self) -> Value {
        let (bos, eos) = (self.first_special_token, self.first_special_token + 1);
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        };
        let text_of = |id: u32| match id {
            _ if id == bos => "<s>".to_owned(),
            _ if id == eos => "</s>".to_owned(),
            _ => format!("w{id}"),
        };
        let vocab: serde_json::Map<String, Value> =
            (0..self.vocab_size).map(|id| (text_of(id), json!(id))).collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [special(bos, "<s>"), special(eos, "</s>")],
            "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null,
            "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
        })
    }

    fn tokenizer_config(&self) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "w0",
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.max_position_embeddings,
            "chat_template": "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}",
        })
    }
}

/// A model that is ready to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What the profile says; also the name under which it is served.
    pub name: String,
    /// Folder with `config.json`, for `--model`.
    pub folder: PathBuf,
    /// Commit of the hub's repository, for a hub id.
    pub revision: Option<String>,
    /// Whether the weights are made up (`--load-format dummy`).
    pub dummy_weights: bool,
    /// Ordinary tokens have numbers below this.
    pub vocab_size: u32,
    /// Digest of `config.json`.
    pub config: Digest,
    /// Digest of the weights' file names and sizes; `None` for made-up weights.
    pub weights: Option<Digest>,
    /// Digest of the tokenizer's files.
    pub tokenizer: Digest,
}

impl Model {
    /// Makes the model ready: writes a dummy's files, downloads a hub id with the interpreter's
    /// `huggingface_hub`, or reads a folder.
    ///
    /// # Errors
    /// On an unknown shape, a hub id without a revision, a folder that holds no model, or a
    /// download that fails.
    pub(super) fn prepare(
        spec: &str,
        python: &Path,
        artifacts: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let models = artifacts.join("models");
        match Source::of(spec)? {
            Source::Dummy(shape) => Self::read(spec, write_shape(shape, &models)?, None),
            Source::Folder(folder) => Self::read(spec, folder, None),
            Source::Hub { id, revision } => {
                say(&format!("downloading {id}@{revision}, unless the hub's cache has it"));
                let folder = download(python, id, revision)?;
                write_json(&hub_note(spec, &models), &folder)?;
                let commit = folder.file_name().map(|name| name.to_string_lossy().into_owned());
                Self::read(spec, folder, commit)
            }
        }
    }

    /// Folder of a model that was made ready before; writes and downloads nothing.
    pub(super) fn known_folder(spec: &str, artifacts: &Path) -> Option<PathBuf> {
        let models = artifacts.join("models");
        let folder = match Source::of(spec).ok()? {
            Source::Dummy(shape) => shape_folder(shape, &models).ok()?,
            Source::Folder(folder) => folder,
            Source::Hub { .. } => read_json(&hub_note(spec, &models))?,
        };
        folder.is_dir().then_some(folder)
    }

    /// Digest of a model's folder that is cheap: contents of `config.json`, names and sizes of
    /// the other files.
    pub(super) fn stamp(folder: &Path) -> Result<Digest> {
        let config = fs::read(folder.join("config.json"))
            .with_context(|| format!("no config.json in {}", folder.display()))?;
        Ok(Digest::of_json(&(Digest::of(&config), files(folder, |_| true)?))?)
    }

    fn read(spec: &str, folder: PathBuf, revision: Option<String>) -> Result<Self> {
        let config_path = folder.join("config.json");
        let bytes = fs::read(&config_path).with_context(|| {
            format!("no model in {}: it needs a config.json and a tokenizer", folder.display())
        })?;
        let config: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not JSON", config_path.display()))?;
        let dummy_weights = spec.starts_with(DUMMY);
        let tokenizer = if dummy_weights { folder.join(TOKENIZER) } else { folder.clone() };
        Ok(Self {
            name: spec.to_owned(),
            vocab_size: ordinary_tokens(&config, &tokenizer.join("tokenizer.json"))?,
            config: Digest::of(&bytes),
            weights: if dummy_weights { None } else { Some(weights_digest(&folder)?) },
            tokenizer: tokenizer_digest(&tokenizer)?,
            revision,
            dummy_weights,
            folder,
        })
    }
}

enum Source<'a> {
    Dummy(&'static Shape),
    Folder(PathBuf),
    Hub { id: &'a str, revision: &'a str },
}

impl<'a> Source<'a> {
    fn of(spec: &'a str) -> Result<Self> {
        if let Some(name) = spec.strip_prefix(DUMMY) {
            let known: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
            return match SHAPES.iter().find(|shape| shape.name == name) {
                Some(shape) => Ok(Self::Dummy(shape)),
                None => bail!("no shape `{name}`; known are {}", known.join(", ")),
            };
        }
        let path = Path::new(spec);
        if path.is_dir() {
            return Ok(Self::Folder(path.canonicalize()?));
        }
        match spec.split_once('@') {
            Some((id, revision)) if id.contains('/') && !revision.is_empty() => {
                Ok(Self::Hub { id, revision })
            }
            _ => bail!(
                "model `{spec}` is no folder; write a hub id with its revision \
                 (`ORG/NAME@COMMIT`), a folder, or `dummy:SHAPE`"
            ),
        }
    }
}

/// Folder of a shape, named after everything that its files are made from.
fn shape_folder(shape: &Shape, models: &Path) -> Result<PathBuf> {
    let digest = Digest::of_json(&(SHAPE_FORMAT, shape))?;
    Ok(models.join(format!("{}-{}", shape.name, digest.short())))
}

/// Writes a shape's folder unless it is there.
fn write_shape(shape: &Shape, models: &Path) -> Result<PathBuf> {
    let folder = shape_folder(shape, models)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = models.join(format!("{}-{}.unfinished", shape.name, std::process::id()));
    let tokenizer = unfinished.join(TOKENIZER);
    fs::create_dir_all(&tokenizer)
        .with_context(|| format!("cannot make {}", unfinished.display()))?;
    let files = [
        (unfinished.join("config.json"), pretty(&shape.config())),
        (tokenizer.join("tokenizer.json"), shape.tokenizer().to_string()),
        (tokenizer.join("tokenizer_config.json"), pretty(&shape.tokenizer_config())),
    ];
    for (path, text) in &files {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Err(e) = fs::rename(&unfinished, &folder) {
        fs::remove_dir_all(&unfinished).ok();
        // Another process was faster: same name, same contents.
        if !folder.is_dir() {
            return Err(e).with_context(|| format!("cannot make {}", folder.display()));
        }
    }
    Ok(folder)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Where the folder of a hub's model is noted.
fn hub_note(spec: &str, models: &Path) -> PathBuf {
    models.join(format!("hub-{}.json", Digest::of(spec.as_bytes()).short()))
}

/// Downloads a snapshot into the hub's cache and gives its folder, which is named after the
/// commit that the revision resolved to. The free space is checked before.
fn download(python: &Path, id: &str, revision: &str) -> Result<PathBuf> {
    const SCRIPT: &str = "\
import os, shutil, sys
from huggingface_hub import HfApi, constants, snapshot_download
name, revision = sys.argv[1:]
os.makedirs(constants.HF_HUB_CACHE, exist_ok=True)
try:
    files = HfApi().model_info(name, revision=revision, files_metadata=True).siblings
except Exception:
    files = []  # offline, gated or unknown: the download itself says which, or finds its cache
size, free = sum(f.size or 0 for f in files), shutil.disk_usage(constants.HF_HUB_CACHE).free
if size > free:
    sys.exit(f'{size >> 20} MiB needed, {free >> 20} MiB free in {constants.HF_HUB_CACHE}')
print(snapshot_download(name, revision=revision))";
    let output = duct::cmd(python.as_os_str(), ["-c", SCRIPT, id, revision])
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .with_context(|| format!("cannot start {}", python.display()))?;
    ensure!(
        output.status.success(),
        "cannot download {id}@{revision}: {}; a gated model needs HF_TOKEN, a model in a folder \
         needs no download",
        last_line(&output.stderr)
    );
    let stdout = String::from_utf8(output.stdout).context("the hub's cache path is not UTF-8")?;
    Ok(PathBuf::from(stdout.trim()))
}

/// Number of tokens below the special ones at the top of the vocabulary.
fn ordinary_tokens(config: &Value, tokenizer_json: &Path) -> Result<u32> {
    let vocab_size = config["vocab_size"]
        .as_u64()
        .or_else(|| config["text_config"]["vocab_size"].as_u64())
        .context("config.json has no vocab_size")?;
    let special_ids = match fs::read(tokenizer_json) {
        Ok(bytes) => {
            let tokenizer: Value = serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not JSON", tokenizer_json.display()))?;
            let added = tokenizer["added_tokens"].as_array().cloned().unwrap_or_default();
            added.iter().filter_map(|token| token["id"].as_u64()).collect()
        }
        // Tokenizers of another kind (tiktoken, SentencePiece) have no such file.
        Err(_) => Vec::new(),
    };
    let first_special = special_ids.into_iter().filter(|id| *id > vocab_size / 2).min();
    Ok(u32::try_from(first_special.unwrap_or(vocab_size).min(vocab_size))?)
}

fn tokenizer_digest(folder: &Path) -> Result<Digest> {
    let names = ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"];
    let mut digests = Vec::new();
    for name in names {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            digests.push((name, Digest::of(&bytes)));
        }
    }
    ensure!(!digests.is_empty(), "no tokenizer in {}", folder.display());
    Ok(Digest::of_json(&digests)?)
}

fn weights_digest(folder: &Path) -> Result<Digest> {
    let is_weights = |name: &str| {
        [".safetensors", ".bin", ".pt", ".gguf"].iter().any(|suffix| name.ends_with(suffix))
    };
    let weights = files(folder, is_weights)?;
    ensure!(!weights.is_empty(), "no weights in {}; use `dummy:SHAPE` without", folder.display());
    Ok(Digest::of_json(&weights)?)
}

/// Names and sizes of the files of a folder, sorted.
fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Through links: a hub's snapshot is made of them.
        let metadata = fs::metadata(&path)?;
        if metadata.is_file() && wanted(&name) {
            found.push((name, metadata.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(spec: &str, artifacts: &Path) -> Result<Model> {
        Model::prepare(spec, Path::new("unused"), artifacts, &mut |_| {})
    }

    #[test]
    fn a_shape_is_written_once_and_the_same_everywhere() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let model = prepare("dummy:tiny", scratch.path()).expect("the shape is known");
        assert_eq!(model.vocab_size, 4_094);
        assert!(model.dummy_weights);
        let again = prepare("dummy:tiny", scratch.path());
        assert_eq!(again.expect("it is there"), model);
        insta::assert_snapshot!(
            "tiny_config",
            fs::read_to_string(model.folder.join("config.json")).expect("it is written")
        );
        insta::assert_snapshot!("tiny_tokenizer_digest", model.tokenizer.to_string());
    }

    #[test]
    fn heads_divide_and_tokens_fit() {
        for shape in &SHAPES {
            assert_eq!(shape.hidden_size % shape.attention_heads, 0, "{}", shape.name);
            assert_eq!(shape.attention_heads % shape.key_value_heads, 0, "{}", shape.name);
            assert!(shape.first_special_token + 1 < shape.vocab_size, "{}", shape.name);
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let fail = |spec: &str| {
            format!("{:#}", prepare(spec, scratch.path()).expect_err("it is no model"))
        };
        assert_eq!(
            fail("dummy:huge"),
            "no shape `huge`; known are tiny, qwen2.5-1.5b, qwen2.5-7b, llama-3.1-8b"
        );
        assert!(fail("Qwen/Qwen2.5-7B").contains("`ORG/NAME@COMMIT`"));
    }
}
