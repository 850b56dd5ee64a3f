//! What needs a person, in words that a clerk can act on or pass on.

use super::language::Text;

/// One thing that is wrong, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TroubleCode {
    /// Records cannot be kept; new calls go to the recorder.
    StoreFailing,
    /// REST answered 401: wrong account SID, auth token or API key.
    TwilioCredentials,
    /// REST answered 404 for a call that is on our line: wrong account or region.
    TwilioWrongAccount,
    /// REST refused a redirect for another reason, also without prompts.
    TwilioRefused,
    /// REST cannot be reached.
    TwilioUnreachable,
    /// Twilio trusts no self-signed certificate.
    CertificateSelfSigned,
    /// Transcripts do not get through, or are not accepted, for reasons that lie in no single one of them.
    SyncFailing,
    /// The office's system refused single transcripts.
    TranscriptsParked,
    /// The lamps cannot be used.
    LampsFailing,
}

/// A trouble in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TroubleText {
    /// What is wrong: one sentence.
    pub what: Text,
    /// What it means for callers, and what to do.
    pub remedy: Text,
}

impl TroubleCode {
    pub const ALL: [TroubleCode; 9] = [
        Self::StoreFailing,
        Self::TwilioCredentials,
        Self::TwilioWrongAccount,
        Self::TwilioRefused,
        Self::TwilioUnreachable,
        Self::CertificateSelfSigned,
        Self::SyncFailing,
        Self::TranscriptsParked,
        Self::LampsFailing,
    ];

    /// The word in `/api/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreFailing => "store_failing",
            Self::TwilioCredentials => "twilio_credentials",
            Self::TwilioWrongAccount => "twilio_wrong_account",
            Self::TwilioRefused => "twilio_refused",
            Self::TwilioUnreachable => "twilio_unreachable",
            Self::CertificateSelfSigned => "certificate_self_signed",
            Self::SyncFailing => "sync_failing",
            Self::TranscriptsParked => "transcripts_parked",
            Self::LampsFailing => "lamps_failing",
        }
    }

    /// The trouble in words.
    pub fn text(self) -> TroubleText {
        let (what_he, what_en) = self.what();
        let (remedy_he, remedy_en) = self.remedy();
        TroubleText { what: Text { he: what_he, en: what_en }, remedy: Text { he: remedy_he, en: remedy_en } }
    }

    fn what(self) -> (&'static str, &'static str) {
        match self {
            Self::StoreFailing => ("המכשיר לא מצליח לשמור שיחות.", "The box cannot save calls."),
            Self::TwilioCredentials => {
                ("‏Twilio לא מקבלת את הסיסמה של המכשיר.", "Twilio does not accept the box's password.")
            }
            Self::TwilioWrongAccount => {
                ("‏Twilio לא מכירה שיחה שנמצאת על הקו.", "Twilio does not know a call that is on the line.")
            }
            Self::TwilioRefused => {
                ("‏Twilio סירבה להעביר מתקשר להקלטת הודעה.", "Twilio refused to send a caller to the recorder.")
            }
            Self::TwilioUnreachable => ("המכשיר לא מצליח להגיע ל־Twilio.", "The box cannot reach Twilio."),
            Self::CertificateSelfSigned => (
                "‏Twilio לא תתחבר למכשיר: התעודה שלו זמנית.",
                "Twilio will not connect: the box has only a makeshift certificate.",
            ),
            Self::SyncFailing => {
                ("התמלולים לא מגיעים למערכת של המשרד.", "Transcripts do not reach the office's system.")
            }
            Self::TranscriptsParked => {
                ("המערכת של המשרד סירבה לקבל חלק מהתמלולים.", "The office's system refused some transcripts.")
            }
            Self::LampsFailing => ("הנורות על המכשיר לא עובדות.", "The lamps on the box do not work."),
        }
    }

    fn remedy(self) -> (&'static str, &'static str) {
        match self {
            Self::StoreFailing => (
                "בינתיים המתקשרים מתבקשים להשאיר הודעה אצל Twilio, ומה שכבר נשמר לא נפגע. בקשו ממי שמטפל במכשיר לפנות מקום בדיסק או להחליף את כרטיס הזיכרון, ואז להפעיל את המכשיר מחדש.",
                "Meanwhile callers are asked to leave a message at Twilio, and what was saved before is safe. Ask whoever looks after the box to free space on its disk or replace its memory card, then restart it.",
            ),
            Self::TwilioCredentials => (
                "השיחות נענות, אבל אי אפשר להעביר להקלטה מתקשר שלא נשמע. בקשו ממי שמטפל במכשיר להשוות את twilio.account_sid ואת twilio.auth_token (או את מפתח ה־API) לערכים באתר של Twilio.",
                "Calls are answered, but a caller who is not heard cannot be sent to the recorder. Ask whoever looks after the box to compare twilio.account_sid and twilio.auth_token (or the API key) with Twilio's console.",
            ),
            Self::TwilioWrongAccount => (
                "כנראה המספר שייך לחשבון אחר או לאזור אחר. בקשו ממי שמטפל במכשיר לבדוק את twilio.account_sid ואת twilio.api_base.",
                "The number probably belongs to another account or region. Ask whoever looks after the box to check twilio.account_sid and twilio.api_base.",
            ),
            Self::TwilioRefused => (
                "ייתכן שמתקשר אחד נשאר בשקט. בקשו ממי שמטפל במכשיר לחפש ביומן את WD_REDIRECT_FAILED: רשום שם הקוד של Twilio.",
                "One caller may have met silence. Ask whoever looks after the box to look for WD_REDIRECT_FAILED in its log: Twilio's error code stands there.",
            ),
            Self::TwilioUnreachable => (
                "בדקו שהאינטרנט במשרד עובד: הנתב דולק והכבלים מחוברים. ברגע שהקשר חוזר, המכשיר ממשיך מעצמו.",
                "See whether the office's internet works: the router is on and the cables are in. The box goes on by itself once it is back.",
            ),
            Self::CertificateSelfSigned => (
                "בקשו ממי שמטפל במכשיר לקבוע תעודה אמיתית ב־public.tls, או להציב לפניו שרת שיש לו תעודה כזאת.",
                "Ask whoever looks after the box to set a real certificate in public.tls, or to put a server that has one in front of it.",
            ),
            Self::SyncFailing => (
                "הם שמורים במכשיר ויישלחו מעצמם ברגע שהמערכת תענה. בדקו שהמערכת פועלת; אם כן, בקשו ממי שמטפל במכשיר לבדוק את sync.url ואת sync.token.",
                "They are safe on the box and are sent by themselves once it answers. See whether the system runs; if it does, ask whoever looks after the box to check sync.url and sync.token.",
            ),
            Self::TranscriptsParked => (
                "הם שמורים במכשיר, והאחרים ממשיכים להישלח. בקשו ממי שמטפל במערכת של המשרד לבדוק מדוע סירבה; ביומן הם מופיעים כ־SYNC_FAILED. אחרי התיקון היכנסו כאן עם הסיסמה ולחצו על ״לשלוח שוב״ ליד כל אחד.",
                "They are kept on the box, and the others go on being sent. Ask whoever looks after the office's system why it refused them; the log has them as SYNC_FAILED. Once that is put right, log in here with the password and press Send again beside each.",
            ),
            Self::LampsFailing => (
                "השיחות לא מושפעות מזה. הסיבה רשומה ביומן, בשורות הראשונות אחרי ההפעלה; בקשו ממי שמטפל במכשיר לבדוק את board.profile.",
                "Calls do not suffer from it. The reason stands in the log, in the first lines after the start; ask whoever looks after the box to check board.profile.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_trouble_has_its_own_code_and_says_what_to_do_in_both_languages() {
        let codes: BTreeSet<_> = TroubleCode::ALL.iter().map(|trouble| trouble.as_str()).collect();
        assert_eq!(codes.len(), TroubleCode::ALL.len());
        for trouble in TroubleCode::ALL {
            let TroubleText { what, remedy } = trouble.text();
            for text in [what, remedy] {
                assert!(text.en.ends_with('.') && text.he.ends_with('.'), "{trouble:?}");
                assert!(text.en.is_ascii(), "{trouble:?}: {}", text.en);
                assert!(text.he.chars().any(|letter| ('א'..='ת').contains(&letter)), "{trouble:?}");
            }
            assert!(remedy.en.len() > what.en.len());
        }
    }

    #[test]
    fn the_worst_comes_first() {
        assert!(TroubleCode::ALL.is_sorted());
        assert!(TroubleCode::StoreFailing < TroubleCode::SyncFailing);
    }
}
