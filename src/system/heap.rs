//! What the program freed goes back to the system.
//!
//! After a crowd glibc keeps the crowd's memory: it gives back the end of its heap by itself, and nothing of what is free
//! between two things that live on. A box that runs for years is asked for that memory by other programs.

/// Gives back every whole page of the heap in which nothing lives. Takes some milliseconds, and whoever allocates
/// meanwhile waits; where the C library is not glibc it does nothing.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim(3) may be called by any thread at any time (MT-Safe): it takes the allocator's own locks, and
    // what it gives back holds no allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// What the kernel counts of this process as its own, in bytes.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn what_was_freed_between_what_lives_is_given_back_and_the_living_is_untouched() {
        // Each freed piece stands between two that live: the end of the heap is not free.
        let mut pieces: Vec<Option<Vec<u8>>> = (0..2_000).map(|nth| Some(vec![nth as u8; 32 * 1024])).collect();
        pieces.iter_mut().step_by(2).for_each(|piece| *piece = None);
        let before = resident();
        trim();
        let given_back = before.saturating_sub(resident());
        assert!(given_back > 16 << 20, "{given_back} of 32 MB");
        for (nth, piece) in pieces.iter().enumerate().skip(1).step_by(2) {
            assert!(piece.as_ref().unwrap().iter().all(|byte| *byte == nth as u8));
        }
    }
}
