//! Webhook forms: bodies and queries to values, order and duplicates kept for the signature.

/// Where a call stands, as Twilio's `CallStatus` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallStatus {
    Queued,
    Initiated,
    Ringing,
    InProgress,
    Completed,
    Busy,
    Failed,
    NoAnswer,
    Canceled,
}

impl CallStatus {
    /// Whether no further status can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled)
    }
}

/// Who placed the call, as Twilio's `Direction` says; anything unknown counts as inbound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    #[default]
    Inbound,
    OutboundApi,
    OutboundDial,
}

/// `StreamEvent` of a stream's status callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    Started,
    Stopped,
    Error,
}

/// `RecordingStatus` of a recording's status callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingStatus {
    InProgress,
    Completed,
    Absent,
    Failed,
}
