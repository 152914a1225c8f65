//! The types of results as JSON Schema, for those who read them from elsewhere. Derived for tests
//! alone, so that the programs do not carry it.

use std::{borrow::Cow, env, fs, path::Path};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use super::{
    AnswersResult, ArgValue, BaselineResult, CapacityResult, ChooseResult, CompareResult,
    ComprehensiveResult, ConfirmResult, FORMAT, LayoutsResult, ProvisionResult, SavedResult,
    SweepResult, TuneResult,
};
use crate::canonical::Digest;

impl JsonSchema for ArgValue {
    fn schema_name() -> Cow<'static, str> {
        "ArgValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Value of a flag of `vllm serve`; a decimal number is its text.",
            "type": ["boolean", "integer", "string", "array"],
            "items": { "type": "string" },
        })
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A SHA-256 digest.",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}

/// A file of any stage, or a saved baseline.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is asked for")]
enum AnyResult {
    Provision(ProvisionResult),
    Baseline(BaselineResult),
    Sweep(SweepResult),
    Tune(TuneResult),
    Answers(AnswersResult),
    Choose(ChooseResult),
    Comprehensive(ComprehensiveResult),
    Capacity(CapacityResult),
    Compare(CompareResult),
    Confirm(ConfirmResult),
    Layouts(LayoutsResult),
    Saved(SavedResult),
}

/// Descriptions in JSON's words: without links into Rust and line breaks.
fn plain(schema: &mut Schema) {
    schemars::transform::transform_subschemas(&mut plain, schema);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ").replace("[`", "`").replace("`]", "`");
        *text = text.replace("`None`", "null");
    }
}

#[test]
fn the_schema_of_results_is_that_of_their_types() {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(plain);
    let mut schema = settings.into_generator().into_root_schema_for::<AnyResult>().to_value();
    schema["title"] = "A result of the tuning bench".into();
    schema["properties"]["format"] = json!({ "description": "Version.", "const": FORMAT });
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
    // From the package of whichever target this is compiled for.
    let mut folders =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|f| f.join("docs/schemas"));
    let path =
        folders.find(|folder| folder.is_dir()).expect("a folder of schemas").join("result.json");
    if env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &text).expect("docs/schemas can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/schemas/result.json is not that of the types: \
         UPDATE_SCHEMAS=1 cargo test schema_of writes it"
    );
}
