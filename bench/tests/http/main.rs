//! The program over sockets: its server byte by byte, its load generator against that server, and
//! against one that fails.

mod common;
mod faults;
mod run;
mod serve;
