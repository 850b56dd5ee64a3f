//! Work that may wait: a thread that gives way to all others.

use std::io;

/// As nice(1) counts, from 0 to 19. The kernel gives such a thread a tenth of what it gives one of the usual priority,
/// where there is not enough for both.
const WAITING: i32 = 10;

/// Lets every thread of the usual priority go before the calling one, and those that it starts from now on. One that has
/// given way already stays as it is.
///
/// # Errors
/// The system does not allow it.
pub fn give_way() -> io::Result<()> {
    // To Linux the calling thread, not the process: setpriority(2), "C library/kernel differences".
    if rustix::process::getpriority_process(None)? < WAITING {
        rustix::process::setpriority_process(None, WAITING)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// The 19th field; the second is a name in brackets.
    fn niceness() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_gives_way_with_those_that_it_starts_and_no_other_does() {
        let before = niceness();
        let waiting = thread::spawn(|| {
            give_way().unwrap();
            give_way().unwrap();
            (niceness(), thread::spawn(niceness).join().unwrap())
        });
        let expected = before.max(WAITING);
        assert_eq!(waiting.join().unwrap(), (expected, expected));
        assert_eq!((niceness(), thread::spawn(niceness).join().unwrap()), (before, before));
    }
}
