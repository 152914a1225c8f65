//! Our side of the OpenAI API: connections, request bodies and the streams that come back.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod connection;
mod secrets;
mod shape;
pub(crate) mod sse;
mod stamped;
mod tls;
