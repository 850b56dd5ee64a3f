//! The fixed tables of live calls: found by CallSid or by key, with a generation that tells a slot's calls apart.

use std::collections::BTreeMap;

use super::{CallKey, StreamKey, Table, call::Call};
use crate::{
    limits::{CALLS_MAX, RECORDER_CALLS_MAX},
    twilio::sid::CallSid,
};

/// Both tables.
#[derive(Debug)]
pub struct Registry {
    streams: Box<Slots<CALLS_MAX>>,
    recorders: Box<Slots<RECORDER_CALLS_MAX>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { streams: Box::new(Slots::new()), recorders: Box::new(Slots::new()) }
    }
}

impl Registry {
    /// Takes a slot for a call that is in no table yet; `None` when that table is full, and nothing has changed.
    pub fn insert(&mut self, table: Table, call_sid: CallSid, make: impl FnOnce(CallKey) -> Call) -> Option<CallKey> {
        debug_assert!(self.find(call_sid).is_none());
        match table {
            Table::Streams => self.streams.insert(table, call_sid, make),
            Table::Recorders => self.recorders.insert(table, call_sid, make),
        }
    }

    /// Where a live call stands.
    pub fn find(&self, call_sid: CallSid) -> Option<CallKey> {
        self.streams.find(call_sid, Table::Streams).or_else(|| self.recorders.find(call_sid, Table::Recorders))
    }

    /// The call at this place, if it is still the same call.
    pub fn call_mut(&mut self, key: CallKey) -> Option<&mut Call> {
        let entry = match key.table {
            Table::Streams => self.streams.entries.get_mut(usize::from(key.slot)),
            Table::Recorders => self.recorders.entries.get_mut(usize::from(key.slot)),
        };
        entry?.call.as_deref_mut().filter(|call| call.key == key)
    }

    /// The call whose current stream this is.
    pub fn call_of_stream_mut(&mut self, stream: StreamKey) -> Option<&mut Call> {
        let call = self.streams.entries.get_mut(usize::from(stream.slot))?.call.as_deref_mut()?;
        call.stream.as_ref().is_some_and(|current| current.key == stream).then_some(call)
    }

    /// A key for a new stream of this call; keys given before speak for it no longer.
    pub fn next_stream(&mut self, key: CallKey) -> Option<StreamKey> {
        let entry = self.streams.entries.get_mut(usize::from(key.slot)).filter(|_| key.table == Table::Streams)?;
        entry.generation = entry.generation.wrapping_add(1);
        Some(StreamKey { slot: key.slot, generation: entry.generation })
    }

    /// Frees a call's slot.
    pub fn remove(&mut self, key: CallKey) -> Option<Box<Call>> {
        match key.table {
            Table::Streams => self.streams.remove(key),
            Table::Recorders => self.recorders.remove(key),
        }
    }

    /// All live calls, those that may stream first.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        let streams = self.streams.entries.iter().filter_map(|entry| entry.call.as_deref());
        streams.chain(self.recorders.entries.iter().filter_map(|entry| entry.call.as_deref()))
    }

    /// How many calls hold a slot of this table.
    pub fn held(&self, table: Table) -> usize {
        match table {
            Table::Streams => self.streams.index.len(),
            Table::Recorders => self.recorders.index.len(),
        }
    }
}

#[derive(Debug)]
struct Slots<const N: usize> {
    entries: heapless::Vec<Entry, N>,
    free: heapless::Vec<u16, N>,
    /// Holds as many as there are slots. On the heap: in a build for many calls it is too large for a stack.
    index: BTreeMap<CallSid, u16>,
}

#[derive(Debug)]
struct Entry {
    /// How many calls and streams this slot has had.
    generation: u32,
    call: Option<Box<Call>>,
}

impl<const N: usize> Slots<N> {
    fn new() -> Self {
        Self { entries: heapless::Vec::new(), free: heapless::Vec::new(), index: BTreeMap::new() }
    }

    fn insert(&mut self, table: Table, call_sid: CallSid, make: impl FnOnce(CallKey) -> Call) -> Option<CallKey> {
        if self.free.is_empty() {
            let slot = u16::try_from(self.entries.len()).ok()?;
            self.entries.push(Entry { generation: 0, call: None }).ok()?;
            self.free.push(slot).ok()?;
        }
        let slot = self.free.pop()?;
        let entry = self.entries.get_mut(usize::from(slot))?;
        entry.generation = entry.generation.wrapping_add(1);
        let key = CallKey { table, slot, generation: entry.generation };
        entry.call = Some(Box::new(make(key)));
        self.index.insert(call_sid, slot);
        Some(key)
    }

    fn find(&self, call_sid: CallSid, table: Table) -> Option<CallKey> {
        let slot = *self.index.get(&call_sid)?;
        let call = self.entries.get(usize::from(slot))?.call.as_deref()?;
        debug_assert_eq!(call.key.table, table);
        Some(call.key)
    }

    fn remove(&mut self, key: CallKey) -> Option<Box<Call>> {
        let entry = self.entries.get_mut(usize::from(key.slot))?;
        let call = entry.call.take_if(|call| call.key == key)?;
        self.index.remove(&call.call_sid);
        let _ = self.free.push(key.slot);
        Some(call)
    }
}
