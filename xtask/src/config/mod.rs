//! Profiles: as written, then as used.

mod resolved;

pub use resolved::{
    Bound, EndpointConfig, EngineConfig, Limit, NamedLoad, Objective, Part, Profile, Sweep,
    SweepValue, VllmConfig,
};
