//! Figures that may lie among failures: a percentile or a rate that was not reached is infinite in
//! memory and a text in JSON, which has no infinity.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in JSON for a figure that was not reached.
const NOT_REACHED: &str = "not reached";
/// The same of a rate, which is better the higher it is: below every figure.
const NOT_SUSTAINED: &str = "not sustained";

/// A figure as JSON has it.
struct Figure(f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == f64::INFINITY {
            serializer.serialize_str(NOT_REACHED)
        } else if self.0 == f64::NEG_INFINITY {
            serializer.serialize_str(NOT_SUSTAINED)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Figure;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "a number or \"{NOT_REACHED}\"")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Figure, E> {
                Ok(Figure(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Figure, E> {
                Ok(Figure(value as f64))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Figure, E> {
                Ok(Figure(value as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Figure, E> {
                match text {
                    NOT_REACHED => Ok(Figure(f64::INFINITY)),
                    NOT_SUSTAINED => Ok(Figure(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// For `#[serde(with)]` of an `f64`.
pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Figure(*value).serialize(serializer)
}

/// For `#[serde(with)]` of an `f64`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Figure::deserialize(deserializer).map(|figure| figure.0)
}

/// For `#[serde(with)]` of an `Option<f64>`.
pub(super) mod option {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Figure).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Figure>::deserialize(deserializer)?.map(|figure| figure.0))
    }
}

/// For `#[serde(with)]` of a list.
pub(super) mod list {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        values: &[f64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().copied().map(Figure))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f64>, D::Error> {
        let figures = Vec::<Figure>::deserialize(deserializer)?;
        Ok(figures.into_iter().map(|figure| figure.0).collect())
    }
}

/// For `#[serde(with)]` of lists of a list.
pub(super) mod lists {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        values: &[Vec<f64>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let figures = |list: &Vec<f64>| list.iter().copied().map(Figure).collect::<Vec<_>>();
        serializer.collect_seq(values.iter().map(figures))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Vec<f64>>, D::Error> {
        let lists = Vec::<Vec<Figure>>::deserialize(deserializer)?;
        let values = |list: Vec<Figure>| list.into_iter().map(|figure| figure.0).collect();
        Ok(lists.into_iter().map(values).collect())
    }
}

/// A number, or the text of one that was not reached.
#[cfg(test)]
pub(super) struct Reached;

#[cfg(test)]
impl schemars::JsonSchema for Reached {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Figure".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number; \"not reached\" of a latency that lies among failed requests, \
                            \"not sustained\" of a rate at which too many requests failed.",
            "type": ["number", "string"],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Figures {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super::option")]
        some: Option<f64>,
        #[serde(with = "super::list")]
        many: Vec<f64>,
    }

    #[test]
    fn what_was_not_reached_survives_json() {
        let figures = Figures {
            one: f64::INFINITY,
            some: Some(f64::NEG_INFINITY),
            many: vec![1.0, f64::INFINITY, 0.1],
        };
        let text = serde_json::to_string(&figures).expect("JSON");
        assert_eq!(
            text,
            r#"{"one":"not reached","some":"not sustained","many":[1.0,"not reached",0.1]}"#
        );
        assert_eq!(serde_json::from_str::<Figures>(&text).expect("the same"), figures);
        assert!(serde_json::from_str::<Figures>(&text.replace("not sustained", "soon")).is_err());
    }
}
