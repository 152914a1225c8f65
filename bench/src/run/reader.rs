//! Whether somebody still reads the events.

use std::{io, process, thread};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Ends the program once nobody reads its standard output any more, as after a kill of the suite that
/// started it. Writing would find out, but nothing is written while a server starts, which takes minutes.
pub(super) fn end_without() -> io::Result<()> {
    thread::Builder::new().name("reader".into()).spawn(|| {
        let out = io::stdout();
        // Errors and hang-ups are told without being asked for; files and terminals have none.
        let mut pipe = [PollFd::new(&out, PollFlags::empty())];
        while poll(&mut pipe, None) == Err(Errno::INTR) {}
        if pipe[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            eprintln!("error: nobody reads the standard output of `bench run` any more: it ends");
            process::exit(1);
        }
    })?;
    Ok(())
}
