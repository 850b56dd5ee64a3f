//! Who calls in the demo, what goes wrong for each, and how the office's number is set up.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    simulator::{
        call_tool::built_in_speech,
        caller::Caller,
        faults::{Faults, StreamFault},
        forms::Parties,
        plan::{Number, Plan, Timing},
    },
    twilio::sid::{AccountSid, CallSid},
};

/// How long media flow before they stop or the connection is lost.
const MEDIA_FLOW: Duration = Duration::from_secs(3);
/// Twilio notices a lost connection only then: the box has to act first.
const LOSS_NOTICED: Duration = Duration::from_secs(5);
/// A box that lost its power does not even say that it is gone: Twilio notices late, and the box is back before.
const CUT_OFF_NOTICED: Duration = Duration::from_secs(30);
/// Nobody stays longer, so that the demo ends whatever happens.
const STAY_MAX: Duration = Duration::from_secs(75);
/// How long a caller bears silence.
const PATIENCE: Duration = Duration::from_secs(40);
/// CallSids of the crowd begin here.
const CROWD: u128 = 1000;

/// A caller with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    pub name: &'static str,
    /// What happens in the call, for the list of callers and the table.
    pub story: &'static str,
    /// What the caller notices when it goes wrong.
    pub noticed: &'static str,
    pub fault: StreamFault,
    /// Whether the caller hangs up after having said all; otherwise the box ends the conversation.
    pub hangs_up: bool,
    /// Who speaks English; the others speak Hebrew.
    pub english: bool,
    number: u8,
}

/// All callers with a name. The last one calls when no place is free.
pub const ROLES: [Role; 6] = [
    Role { hangs_up: true, ..role(1, "Dana", "nothing goes wrong; she hangs up") },
    role(2, "Boaz", "nothing goes wrong; he falls silent"),
    Role {
        fault: StreamFault::NeverConnects,
        noticed: "hears nothing: the stream does not come",
        ..role(3, "Gil", "the stream never starts")
    },
    Role {
        fault: StreamFault::MediaStops,
        noticed: "is cut off: no more media, the connection stays open",
        english: true,
        ..role(4, "Noa", "media stop in the middle")
    },
    Role {
        fault: StreamFault::Drops { noticed_after: LOSS_NOTICED },
        noticed: "is cut off: the stream's connection is lost",
        ..role(5, "Eli", "the connection is lost in the middle")
    },
    Role { english: true, ..role(6, "Tamar", "every place is taken") },
];

/// Who calls the second box, in the last act.
pub const ENCORE: [Role; 2] = [
    role(7, "Ruth", "kept; the office's system is down"),
    Role {
        fault: StreamFault::Drops { noticed_after: CUT_OFF_NOTICED },
        noticed: "speaks into nothing: the plug was pulled",
        english: true,
        ..role(8, "Yael", "the box is killed in mid-call")
    },
];

const fn role(number: u8, name: &'static str, story: &'static str) -> Role {
    Role { name, story, noticed: "", fault: StreamFault::None, hangs_up: false, english: false, number }
}

impl Role {
    /// Whose call this is; `None`: somebody's of the crowd, or a stranger's.
    pub fn of(call_sid: CallSid) -> Option<&'static Self> {
        ROLES.iter().chain(&ENCORE).find(|role| role.call_sid() == call_sid)
    }

    pub fn call_sid(&self) -> CallSid {
        CallSid::from_number(self.number.into())
    }
}

/// The office's number at Twilio, and what its callers have to say.
#[derive(Debug, Clone)]
pub struct Line {
    public: SocketAddr,
    account_sid: AccountSid,
    hebrew: Arc<[u8]>,
    english: Arc<[u8]>,
}

impl Line {
    /// A number whose webhooks lead to the box at `public`.
    pub fn new(public: SocketAddr, account_sid: AccountSid) -> Self {
        Self { public, account_sid, hebrew: built_in_speech(false), english: built_in_speech(true) }
    }

    /// What to enter as "A call comes in".
    pub fn voice_url(&self) -> String {
        format!("https://{}/webhook/incoming_call", self.public)
    }

    /// The call of a caller with a name.
    pub fn plan(&self, role: &Role) -> Plan {
        let from = format!("+97250555010{}", role.number);
        let mut plan = self.somebody(role.call_sid(), from);
        plan.caller.leaves_after_saying = role.hangs_up.then_some(Duration::from_secs(1));
        plan.faults = Faults { stream: role.fault, after: MEDIA_FLOW, ..Faults::default() };
        if role.english {
            plan.caller.speech = self.english.clone();
        }
        plan
    }

    /// The call of one of the crowd, who stays until told to hang up.
    pub fn plan_of_crowd(&self, nth: usize) -> Plan {
        self.somebody(CallSid::from_number(CROWD + nth as u128), format!("+9725055{:05}", 20_000 + nth))
    }

    fn somebody(&self, call_sid: CallSid, from: String) -> Plan {
        Plan {
            parties: Parties { account_sid: self.account_sid, call_sid, from, to: "+97235550100".to_owned() },
            number: Number {
                voice_url: self.voice_url(),
                fallback_url: None,
                status_callback: Some(format!("https://{}/webhook/call_status", self.public)),
                connect_action_after_hang_up: true,
                silent_record_calls_action: false,
            },
            caller: Caller {
                speech: self.hebrew.clone(),
                leaves_after_saying: None,
                leaves_after: STAY_MAX,
                patience: PATIENCE,
            },
            faults: Faults::default(),
            timing: Timing::default(),
            placed_at: jiff::Timestamp::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_known_by_their_calls_and_the_crowd_is_nobody() {
        let line = Line::new(SocketAddr::from(([127, 0, 0, 1], 1)), AccountSid::from_number(1));
        for role in ROLES.iter().chain(&ENCORE) {
            assert_eq!(Role::of(line.plan(role).parties.call_sid), Some(role));
        }
        assert_eq!(Role::of(line.plan_of_crowd(0).parties.call_sid), None);
    }
}
