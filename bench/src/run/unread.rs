//! Whether somebody still reads the events.

use std::{io, process, thread};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Ends the program once nobody reads its standard output any more, as after a kill of the suite that
/// started it. Writing would find out, but nothing is written while a server starts, which takes minutes.
pub(super) fn watch() -> io::Result<()> {
    thread::Builder::new().name("unread".into()).spawn(|| {
        let out = io::stdout();
        // Errors and hang-ups are told without being asked for: a pipe has one when its reader is gone, a
        // terminal when it is; files have none.
        let mut pipe = [PollFd::new(&out, PollFlags::empty())];
        while poll(&mut pipe, None) == Err(Errno::INTR) {}
        if pipe[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            eprintln!("error: nobody reads the standard output of `bench run` any more: it ends");
            process::exit(1);
        }
    })?;
    Ok(())
}
