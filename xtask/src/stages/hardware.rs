//! What is known of the card and of the model, for floors.

use serde_json::Value;

use analysis::floors::{Card, Costs, Dimensions, Server};
use engines::vllm::SHAPES;
use profile::{EngineConfig, Profile};

/// The card and the costs of the model, where both are known: one card, and a shape that the project
/// has the dimensions of.
pub fn hardware(profile: &Profile, identity: &Value) -> Server {
    let known = match &profile.engine {
        // Titles are `CARD, MODEL`.
        EngineConfig::Simulator { model, .. } => {
            let title = model.title.split_once(", ");
            title
                .and_then(|(card, shape)| Some((Card::named(card)?, costs(&shape.to_lowercase())?)))
        }
        EngineConfig::Vllm(vllm) => (|| {
            let device = &identity["device"];
            let card = device["name"].as_str().filter(|_| device["count"] == 1)?;
            Some((Card::named(card)?, costs(vllm.model.strip_prefix("dummy:")?)?))
        })(),
        EngineConfig::Endpoint(_) => None,
    };
    Server { hardware: known, alone: None }
}

fn costs(shape: &str) -> Option<Costs> {
    let shape = SHAPES.iter().find(|known| known.name == shape)?;
    let dimensions = Dimensions {
        hidden: shape.hidden_size,
        intermediate: shape.intermediate_size,
        layers: shape.layers,
        kv: shape.hidden_size / shape.attention_heads * shape.key_value_heads,
        vocab: shape.vocab_size,
    };
    Some(dimensions.costs())
}
