//! Looks at the box's memory, and the table of them.

use crate::support::{
    figures::{self, Table},
    gateway::Memory,
};

/// One look at the box.
pub struct Look {
    pub connections: usize,
    pub calls: usize,
    pub memory: Memory,
    pub records: u64,
    pub audio: u64,
}

/// What was seen, a line a look, and the last beside the first.
pub fn looks_table(looks: &[Look]) -> Table {
    let head = ["connections", "calls", "RSS", "of it anonymous", "peak", "descriptors", "threads", "records", "audio"];
    let mut table = Table::new(&head);
    for Look { connections, calls, memory, records, audio } in looks {
        table.row([
            connections.to_string(),
            calls.to_string(),
            figures::size(memory.resident),
            figures::size(memory.anonymous),
            figures::size(memory.peak),
            memory.descriptors.to_string(),
            memory.threads.to_string(),
            figures::size(*records),
            figures::size(*audio),
        ]);
    }
    // The first look is at a box to which nobody has come yet.
    if let [_, first, .., last] = looks {
        let (before, after) = (&first.memory, &last.memory);
        let pairs = [(before.resident, after.resident), (before.anonymous, after.anonymous), (before.peak, after.peak)];
        let ratios = pairs.map(|(before, after)| figures::ratio(after as f64, before as f64));
        table.row(["last to first".to_owned(), String::new()].into_iter().chain(ratios));
    }
    table
}
