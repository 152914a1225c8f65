use serde::{Deserialize, Serialize};

/// A mean over server starts with its 95 % interval. A figure that a start did not reach, since too
/// many requests failed, is infinite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Mean over starts.
    #[serde(with = "super::reach")]
    #[cfg_attr(test, schemars(with = "super::reach::Reached"))]
    pub mean: f64,
    /// Lower end of the interval; `None` with a single start.
    #[serde(with = "super::reach::option")]
    #[cfg_attr(test, schemars(with = "Option<super::reach::Reached>"))]
    pub low: Option<f64>,
    /// Upper end.
    #[serde(with = "super::reach::option")]
    #[cfg_attr(test, schemars(with = "Option<super::reach::Reached>"))]
    pub high: Option<f64>,
    /// One value a start.
    #[serde(with = "super::reach::list")]
    #[cfg_attr(test, schemars(with = "Vec<super::reach::Reached>"))]
    pub starts: Vec<f64>,
    /// For each start its repeats, of which its value is the mean; empty where none was repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::reach::lists")]
    #[cfg_attr(test, schemars(with = "Vec<Vec<super::reach::Reached>>"))]
    pub repeats: Vec<Vec<f64>>,
}

impl Estimate {
    /// One value a start; of a figure whose starts are not known, the figure.
    pub fn values(&self) -> &[f64] {
        if self.starts.is_empty() { std::slice::from_ref(&self.mean) } else { &self.starts }
    }
}
