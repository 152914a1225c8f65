//! stub
use bench_core::schema::Args;
pub fn check_combination(_: &Args) -> Option<String> {
    None
}
