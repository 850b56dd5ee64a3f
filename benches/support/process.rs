//! What a process or a thread has taken of the CPU, as the kernel counts it.

use std::{fs, io, thread, time::Duration};

/// Ticks of `/proc` in a second: to programs the same on every Linux (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: u64 = 100;

/// Time on the CPU of all threads, in the program and in the system for it.
///
/// # Errors
/// The process is gone.
pub fn cpu_time(process_id: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process_id}/stat"))?;
    // The second field is a name in brackets, which may hold anything; `utime` and `stime` are the 14th and the 15th.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    let ticks: Option<u64> = fields.map(|field| field.parse::<u64>().ok()).sum();
    let ticks = ticks.ok_or_else(|| io::Error::other("the kernel tells no time"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Time on the CPU of the calling thread, to the nanosecond.
///
/// # Errors
/// The kernel does not tell.
pub fn thread_cpu_time() -> io::Result<Duration> {
    // The kernel settles its account when the thread makes room for another.
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| io::Error::other("the kernel tells no time"))
}
