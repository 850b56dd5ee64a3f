//! (to come)

/// A live call's place: which table, which slot, and which of the calls that slot has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    pub table: Table,
    pub slot: u16,
    pub generation: u32,
}

/// The two fixed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Calls that may stream.
    Streams,
    /// Calls that were sent straight to the recorder.
    Recorders,
}
