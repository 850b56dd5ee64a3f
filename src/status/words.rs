//! Every text of the page, in both languages side by side. Plain words: the reader is a clerk, not a programmer.

use std::time::Duration;

use super::language::{Counted, Language, Text};
use crate::{
    board::lamps::{Lamp, Pattern},
    calls::{CallState, FallbackReason},
    transcripts::{Outcome, Source},
};

const fn text(he: &'static str, en: &'static str) -> Text {
    Text { he, en }
}

pub const SUBTITLE: Text = text("קו הטלפון של המשרד", "The office's telephone line");
pub const LANGUAGES: Text = text("שפה", "Language");

pub const IDLE: Text = text("הכול תקין. הקו פנוי.", "All is well. The line is free.");
pub const IDLE_MORE: Text = text("השיחה הבאה תופיע כאן.", "The next call will appear here.");
pub const ANSWERING: Counted = Counted {
    one: text("עונים עכשיו לשיחה.", "A call is being answered."),
    two: text("עונים עכשיו לשתי שיחות.", "2 calls are being answered."),
    many: text("עונים עכשיו ל־{n} שיחות.", "{n} calls are being answered."),
};
pub const ANSWERING_MORE: Text = text("שומעים שם את הברכה.", "The greeting is playing.");
pub const STREAMING: Counted = Counted {
    one: text("שומעים עכשיו מתקשר אחד.", "One caller is being heard now."),
    two: text("שומעים עכשיו שני מתקשרים.", "2 callers are being heard now."),
    many: text("שומעים עכשיו {n} מתקשרים.", "{n} callers are being heard now."),
};
pub const STREAMING_MORE: Text = text("הכול תקין.", "All is well.");
pub const FALLBACK: Counted = Counted {
    one: text("מתקשר אחד משאיר עכשיו הודעה.", "One caller is leaving a message now."),
    two: text("שני מתקשרים משאירים עכשיו הודעה.", "2 callers are leaving a message now."),
    many: text("{n} מתקשרים משאירים עכשיו הודעה.", "{n} callers are leaving a message now."),
};
pub const FALLBACK_MORE: Text = text(
    "אי אפשר היה לשמוע אותם בזמן אמת, ולכן ביקשנו להשאיר הודעה.",
    "We could not hear them live, so they were asked to leave a message.",
);
pub const ALSO_HEARD: Counted = Counted {
    one: text("עוד מתקשר אחד נשמע בזמן אמת.", "One more caller is heard live."),
    two: text("עוד שני מתקשרים נשמעים בזמן אמת.", "2 more callers are heard live."),
    many: text("עוד {n} מתקשרים נשמעים בזמן אמת.", "{n} more callers are heard live."),
};
pub const TROUBLES: Counted = Counted {
    one: text("דבר אחד דורש טיפול.", "One thing needs attention."),
    two: text("שני דברים דורשים טיפול.", "2 things need attention."),
    many: text("{n} דברים דורשים טיפול.", "{n} things need attention."),
};
pub const TROUBLES_MORE: Text = text("מה לעשות כתוב כאן למטה.", "What to do is written below.");
pub const DRAINING: Text = text(
    "המכשיר מסיים את השיחות ונעצר בקרוב. מי שיתקשר עכשיו יתבקש להשאיר הודעה.",
    "The box is finishing its calls and stops soon. Whoever calls now is asked to leave a message.",
);

pub const WHAT_TO_DO: Text = text("מה לעשות", "What to do");
pub const CALLS_NOW: Text = text("עכשיו על הקו", "On the line now");
pub const NOBODY: Text = text("אין כרגע אף אחד על הקו.", "Nobody is on the line.");
pub const MORE_CALLS: Counted = Counted {
    one: text("ועוד שיחה אחת", "and one more call"),
    two: text("ועוד שתי שיחות", "and 2 more calls"),
    many: text("ועוד {n} שיחות", "and {n} more calls"),
};
pub const NO_SOUND_FOR: Text = text("לא מגיע קול כבר", "No sound arrives for");

pub const LAST_CALLS: Text = text("שיחות אחרונות", "Last calls");
pub const NO_CALLS_YET: Text = text("עוד לא היו שיחות.", "No calls yet.");
pub const DELIVERED: Text = text("נמסר למשרד", "Delivered");
pub const WAITS: Text = text("מחכה למסירה", "Waits to be delivered");
pub const KEPT: Text = text("נשמר במכשיר", "Kept on the box");

/// The digits follow at once: a Hebrew prefix is part of its word.
pub const ENDS_IN: Text = text("מספר שנגמר ב־", "Number ending in ");
pub const HIDDEN: Text = text("מספר מוסתר", "Number hidden");
pub const WITHHELD: Text = text("מספר חסוי", "Withheld number");

pub const DELIVERY: Text = text("מסירה למערכת של המשרד", "Delivery to the office's system");
pub const ALL_DELIVERED: Text = text("הכול נמסר.", "Everything was delivered.");
pub const NOTHING_YET: Text = text("עוד אין מה למסור.", "Nothing to deliver yet.");
pub const NOT_CONFIGURED: Text = text(
    "לא הוגדרה מערכת למסור לה, ולכן התמלולים נשמרים במכשיר.",
    "No system to deliver to is set, so transcripts stay on the box.",
);
pub const WAITING: Counted = Counted {
    one: text("תמלול אחד מחכה.", "One transcript waits."),
    two: text("שני תמלולים מחכים.", "2 transcripts wait."),
    many: text("{n} תמלולים מחכים.", "{n} transcripts wait."),
};
pub const PARKED: Counted = Counted {
    one: text("תמלול אחד לא התקבל, והוא שמור כאן.", "One transcript was refused, and is kept here."),
    two: text("שני תמלולים לא התקבלו, והם שמורים כאן.", "2 transcripts were refused, and are kept here."),
    many: text("{n} תמלולים לא התקבלו, והם שמורים כאן.", "{n} transcripts were refused, and are kept here."),
};
pub const AWAITING_RECORDING: Counted = Counted {
    one: text("שיחה אחת מחכה להקלטה שלה.", "One call waits for its recording."),
    two: text("שתי שיחות מחכות להקלטה שלהן.", "2 calls wait for their recordings."),
    many: text("{n} שיחות מחכות להקלטה שלהן.", "{n} calls wait for their recordings."),
};
pub const DAMAGED: Counted = Counted {
    one: text(
        "תמלול אחד נפגע בדיסק ולא יימסר; ספרו על כך למי שמטפל במכשיר.",
        "One transcript was damaged on the disk and will not be delivered; tell whoever looks after the box.",
    ),
    two: text(
        "שני תמלולים נפגעו בדיסק ולא יימסרו; ספרו על כך למי שמטפל במכשיר.",
        "2 transcripts were damaged on the disk and will not be delivered; tell whoever looks after the box.",
    ),
    many: text(
        "{n} תמלולים נפגעו בדיסק ולא יימסרו; ספרו על כך למי שמטפל במכשיר.",
        "{n} transcripts were damaged on the disk and will not be delivered; tell whoever looks after the box.",
    ),
};
pub const SPEECH: Text = text("מקול לטקסט", "From voice to text");
/// Followed by when the call ended that has waited longest for its text.
pub const LONGEST_WAIT: Text = text("השיחה הראשונה מחכה מאז", "The first call waits since");
pub const LAST_REASON: Text = text("הסיבה", "The reason");
/// Followed by when the call of the first in the queue ended.
pub const WAITING_SINCE: Text = text("מחכים מאז", "Waiting since");
pub const LAST_DELIVERED: Text = text("נמסר לאחרונה", "Last delivered");
pub const LAST_FAILURE: Text = text("הכישלון האחרון", "Last failure");
pub const STORED: Text = text("שמורים במכשיר", "Kept on the box");
pub const ON_DISK: Text = text("מקום בדיסק", "On the disk");
pub const RECORDS: Text = text("תמלולים", "transcripts");
pub const AUDIO: Text = text("קול", "audio");
pub const FREE: Text = text("פנוי", "free");

pub const LAMPS: Text = text("הנורות על המכשיר", "The lamps on the box");

/// The time follows at once.
pub const UPDATED: Text = text("עודכן ב־", "Updated at ");
pub const REFRESHES: Text = text("מתעדכן מעצמו", "Refreshes by itself");
pub const STANDS_STILL: Text = text("העדכון נעצר", "Refreshing is paused");
pub const PAUSE: Text = text("עצירה", "Pause");
pub const RESUME: Text = text("המשך", "Resume");
pub const RUNS_FOR: Text = text("פועל כבר", "Running for");
pub const PLACES: Text = text("שיחות בו־זמנית, לכל היותר", "Calls at once, at most");
pub const VERSION: Text = text("גרסה", "Version");
pub const FOR_PROGRAMS: Text = text("המצב כ־JSON", "This as JSON");
pub const SHOW_NUMBERS: Text = text("הצגת המספרים המלאים", "Show whole numbers");
pub const NUMBERS_HIDDEN: Text = text(
    "המספרים מוסתרים, כי לא נקבעה סיסמה (status.password).",
    "Numbers are hidden, as no password is set (status.password).",
);

pub const LOG_IN: Text = text("כניסה", "Log in");
pub const LOG_OUT: Text = text("יציאה", "Log out");
pub const LOG_IN_TITLE: Text = text("כניסה עם סיסמה", "Log in with the password");
pub const LOG_IN_WHY: Text = text(
    "אחרי הכניסה רואים את המספרים המלאים, ואפשר לשלוח שוב תמלולים שלא התקבלו. הסיסמה נמצאת אצל מי שהתקין את המכשיר.",
    "Once logged in you see whole numbers, and can send refused transcripts again. Whoever installed the box has the password.",
);
pub const PASSWORD: Text = text("סיסמה", "Password");
pub const BACK: Text = text("חזרה לדף", "Back to the page");
pub const PASSWORD_WRONG: Text = text("הסיסמה לא נכונה.", "That is not the password.");
pub const PASSWORD_TOO_SOON: Text =
    text("רגע אחד: אפשר לנסות פעם בשנייה. נסו שוב.", "One moment: there is one try a second. Try again.");
pub const PASSWORD_BUSY: Text =
    text("אי אפשר לבדוק את הסיסמה כרגע. נסו שוב.", "The password cannot be checked just now. Try again.");

pub const REFUSED: Text = text("המערכת של המשרד סירבה", "Refused by the office's system");
pub const SEND_AGAIN: Text = text("לשלוח שוב", "Send again");
pub const LOST: Text = text("המכשיר לא עונה.", "The box does not answer.");
pub const LOST_MORE: Text = text(
    "מה שכתוב למטה היה נכון כשענה לאחרונה. בדקו שהמכשיר מחובר לחשמל ולרשת, ושהנורה POWER מהבהבת; אם זה נמשך, פנו למי שמטפל במכשיר.",
    "What stands below was true when it last did. See that the box has power and network, and that its POWER lamp blinks; if it stays so, tell whoever looks after it.",
);

/// What a live call is doing.
pub fn call_state(state: CallState) -> Text {
    match state {
        CallState::AwaitingStream => text("שומע את הברכה", "Hears the greeting"),
        CallState::Streaming => text("נשמע בזמן אמת", "Heard live"),
        CallState::FallingBack => text("עובר להשארת הודעה", "On the way to leave a message"),
        CallState::Recording => text("משאיר הודעה", "Leaving a message"),
        CallState::Ending => text("נפרד לשלום", "Saying goodbye"),
    }
}

/// What became of an ended call.
pub fn outcome(source: Source, outcome: Outcome) -> Text {
    match (source, outcome) {
        (Source::Stream, Outcome::Transcribed) => text("נשמע ונכתב", "Heard and written down"),
        (Source::Stream, Outcome::Untranscribed) => text("נשמע, בלי תמלול", "Heard, not written down"),
        (Source::Stream, Outcome::NoSpeech) => text("לא נאמר דבר", "Nothing was said"),
        (Source::Recording, Outcome::Transcribed) => text("הודעה שנכתבה", "Left a message, written down"),
        (Source::Recording, Outcome::Untranscribed) => {
            text("הודעה מוקלטת, בלי תמלול", "Left a message, not written down")
        }
        (Source::Recording, Outcome::NoSpeech) => text("הודעה ריקה", "Left an empty message"),
    }
}

/// Why a call was not heard live to its end; followed by [`consequence`].
pub fn reason(reason: FallbackReason) -> Text {
    match reason {
        FallbackReason::NoStreamStart => text("השידור החי לא נפתח", "The live line did not open"),
        FallbackReason::NoMedia => text("לא שמענו את המתקשר בזמן אמת", "We could not hear the caller live"),
        FallbackReason::StreamError => text("השידור החי השתבש", "The live line broke"),
        FallbackReason::SocketLost => text("השידור החי נותק באמצע", "The live line was cut off"),
        FallbackReason::EndedWithoutMedia => {
            text("השידור החי נסגר לפני שנשמע משהו", "The live line closed before anything was heard")
        }
        FallbackReason::UnknownCall => {
            text("המכשיר הופעל מחדש באמצע השיחה", "The box was restarted in the middle of the call")
        }
        FallbackReason::NoCapacity => text("כל הקווים היו תפוסים", "All lines were busy"),
        FallbackReason::Draining => text("המכשיר עמד להיעצר", "The box was about to stop"),
        FallbackReason::Trouble => text("הייתה תקלה במכשיר", "The box was in trouble"),
    }
}

/// What followed from a [`reason`].
pub fn consequence(source: Source) -> Text {
    match source {
        Source::Recording => text(", ולכן הושארה הודעה.", ", so they left a message."),
        Source::Stream => text(", ולכן ביקשנו להשאיר הודעה.", ", so they were asked to leave a message."),
    }
}

/// What a lamp is for.
pub fn lamp(lamp: Lamp) -> Text {
    match lamp {
        Lamp::Power => text("המכשיר חי", "The box is alive"),
        Lamp::Stream => text("שומעים מתקשר", "A caller is heard"),
        Lamp::Fallback => text("הודעה או תקלה", "A message, or trouble"),
        Lamp::Inbox => text("תמלולים מחכים", "Transcripts wait"),
    }
}

/// What a lamp is doing.
pub fn pattern(pattern: Pattern) -> Text {
    match pattern {
        Pattern::Off => text("כבויה", "off"),
        Pattern::Steady => text("דולקת", "lit"),
        Pattern::SlowBlink => text("מהבהבת לאט", "blinks slowly"),
        Pattern::FastBlink => text("מהבהבת מהר", "blinks fast"),
        Pattern::Heartbeat => text("פועמת", "beats"),
    }
}

/// A length of time in the largest unit of which it holds two: "95 seconds", "3 minutes", "30 hours", "5 days".
pub fn duration(language: Language, duration: Duration) -> String {
    const UNITS: [(u64, Counted); 4] = [
        (
            86_400,
            Counted {
                one: text("יום אחד", "1 day"),
                two: text("יומיים", "2 days"),
                many: text("{n} ימים", "{n} days"),
            },
        ),
        (
            3_600,
            Counted {
                one: text("שעה", "1 hour"), two: text("שעתיים", "2 hours"), many: text("{n} שעות", "{n} hours")
            },
        ),
        (
            60,
            Counted {
                one: text("דקה", "1 minute"),
                two: text("שתי דקות", "2 minutes"),
                many: text("{n} דקות", "{n} minutes"),
            },
        ),
        (
            1,
            Counted {
                one: text("שנייה", "1 second"),
                two: text("שתי שניות", "2 seconds"),
                many: text("{n} שניות", "{n} seconds"),
            },
        ),
    ];
    let seconds = duration.as_secs();
    let (unit, counted) = UNITS.iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or(&UNITS[3]);
    language.count(counted, seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::{Language::*, *};

    #[test]
    fn lengths_of_time_are_said_in_a_unit_that_loses_little() {
        let said = |language, seconds| duration(language, Duration::from_secs(seconds));
        assert_eq!(said(English, 0), "0 seconds");
        assert_eq!(said(English, 59), "59 seconds");
        assert_eq!(said(English, 1), "1 second");
        assert_eq!(said(English, 119), "119 seconds");
        assert_eq!(said(Hebrew, 120), "שתי דקות");
        assert_eq!(said(Hebrew, 7_200), "שעתיים");
        assert_eq!(said(Hebrew, 9 * 86_400), "9 ימים");
    }
}
