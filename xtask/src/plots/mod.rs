//! stub
use bench_core::schema::ResultFile;
pub struct Inputs<'a> {
    pub baseline: &'a ResultFile,
    pub sweeps: &'a [ResultFile],
    pub comprehensive: Option<&'a ResultFile>,
    pub comparison: &'a ResultFile,
    pub objective: &'a crate::config::Objective,
}
pub struct Drawing {
    pub name: String,
    pub svg: String,
}
pub fn draw_all(_: &Inputs<'_>) -> anyhow::Result<Vec<Drawing>> {
    Ok(vec![])
}
pub fn png(_: &str) -> anyhow::Result<Vec<u8>> {
    Ok(vec![])
}
