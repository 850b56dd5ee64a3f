//! What needs a person, in words that a clerk can act on or pass on.

use super::language::Text;

/// One thing that is wrong, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TroubleCode {
    /// Records cannot be kept; new calls go to the recorder.
    StoreFailing,
    /// The store's disk has no room.
    StoreDiskFull,
    /// The store's directory is read-only, or somebody else's.
    StoreNotWritable,
    /// The store is full of records that the office's system has not taken.
    StoreFull,
    /// The store is still being opened.
    StoreOpening,
    /// Twilio refuses a certificate whose time is over.
    CertificateExpired,
    /// The certificate is for later, or the box's clock is behind.
    CertificateNotYetValid,
    /// The certificates do not lead, one by one, to an authority that Twilio knows.
    CertificateUntrusted,
    /// The certificate is for other names than the box's.
    CertificateOtherName,
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
    /// The files hold a new certificate that cannot be used in place of the one in use.
    CertificateNotTaken,
    /// The certificate's time is over within 14 days.
    CertificateExpiresSoon,
    /// A damaged store was set aside, and nobody has looked at it yet.
    StoreDamaged,
    /// Transcripts do not get through, or are not accepted, for reasons that lie in no single one of them.
    SyncFailing,
    /// The office's system refused single transcripts.
    TranscriptsParked,
    /// New audio finds no room, and what is kept is the only copy.
    AudioFull,
    /// The speech engine does not answer, or is not ready; records wait for it.
    SpeechSilent,
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
    pub const ALL: [TroubleCode; 22] = [
        Self::StoreFailing,
        Self::StoreDiskFull,
        Self::StoreNotWritable,
        Self::StoreFull,
        Self::StoreOpening,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificateUntrusted,
        Self::CertificateOtherName,
        Self::TwilioCredentials,
        Self::TwilioWrongAccount,
        Self::TwilioRefused,
        Self::TwilioUnreachable,
        Self::CertificateSelfSigned,
        Self::CertificateNotTaken,
        Self::CertificateExpiresSoon,
        Self::StoreDamaged,
        Self::SyncFailing,
        Self::TranscriptsParked,
        Self::AudioFull,
        Self::SpeechSilent,
        Self::LampsFailing,
    ];

    /// The word in `/api/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreFailing => "store_failing",
            Self::StoreDiskFull => "store_disk_full",
            Self::StoreNotWritable => "store_not_writable",
            Self::StoreFull => "store_full",
            Self::StoreOpening => "store_opening",
            Self::StoreDamaged => "store_damaged",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::CertificateOtherName => "certificate_other_name",
            Self::TwilioCredentials => "twilio_credentials",
            Self::TwilioWrongAccount => "twilio_wrong_account",
            Self::TwilioRefused => "twilio_refused",
            Self::TwilioUnreachable => "twilio_unreachable",
            Self::CertificateSelfSigned => "certificate_self_signed",
            Self::CertificateNotTaken => "certificate_not_taken",
            Self::CertificateExpiresSoon => "certificate_expires_soon",
            Self::SyncFailing => "sync_failing",
            Self::TranscriptsParked => "transcripts_parked",
            Self::AudioFull => "audio_full",
            Self::SpeechSilent => "speech_silent",
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
            Self::StoreDiskFull => ("הדיסק של המכשיר מלא.", "The box's disk is full."),
            Self::StoreNotWritable => {
                ("המכשיר לא יכול לכתוב לתיקייה שבה הוא שומר שיחות.", "The box cannot write where it saves calls.")
            }
            Self::StoreFull => (
                "המכשיר מלא בתמלולים שהמערכת של המשרד עוד לא קיבלה.",
                "The box is full of transcripts that the office's system has not taken.",
            ),
            Self::StoreOpening => ("המכשיר עוד קורא את מה ששמר.", "The box is still reading what it has saved."),
            Self::StoreDamaged => ("חלק ממה שנשמר במכשיר נפגע.", "Part of what the box had saved was damaged."),
            Self::CertificateExpired => (
                "‏Twilio לא תתחבר למכשיר: פג תוקף התעודה שלו.",
                "Twilio will not connect: the box's certificate has expired.",
            ),
            Self::CertificateNotYetValid => (
                "‏Twilio כנראה לא תתחבר למכשיר: לפי השעון שלו, התעודה שלו עוד לא בתוקף.",
                "Twilio may not connect: by the box's clock, its certificate is not valid yet.",
            ),
            Self::CertificateUntrusted => (
                "‏Twilio לא תתחבר למכשיר: אין לה דרך לאמת את התעודה שלו.",
                "Twilio will not connect: it has no way to verify the box's certificate.",
            ),
            Self::CertificateOtherName => (
                "‏Twilio לא תתחבר למכשיר: התעודה שלו היא על שם אחר.",
                "Twilio will not connect: the box's certificate is for another name.",
            ),
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
            Self::CertificateNotTaken => {
                ("אי אפשר להשתמש בתעודה החדשה של המכשיר.", "The box's new certificate cannot be used.")
            }
            Self::CertificateExpiresSoon => {
                ("תוקף התעודה של המכשיר יפוג בתוך שבועיים.", "The box's certificate expires within two weeks.")
            }
            Self::SyncFailing => {
                ("התמלולים לא מגיעים למערכת של המשרד.", "Transcripts do not reach the office's system.")
            }
            Self::TranscriptsParked => {
                ("המערכת של המשרד סירבה לקבל חלק מהתמלולים.", "The office's system refused some transcripts.")
            }
            Self::AudioFull => {
                ("אין במכשיר מקום לקולות של מתקשרים נוספים.", "The box has no room for the voices of further callers.")
            }
            Self::SpeechSilent => ("מנוע התמלול אינו עונה.", "The speech engine does not answer."),
            Self::LampsFailing => ("הנורות על המכשיר לא עובדות.", "The lamps on the box do not work."),
        }
    }

    fn remedy(self) -> (&'static str, &'static str) {
        match self {
            Self::StoreFailing => (
                "בינתיים המתקשרים מתבקשים להשאיר הודעה אצל Twilio, ומה שכבר נשמר לא נפגע. בקשו ממי שמטפל במכשיר להחליף את כרטיס הזיכרון או את הדיסק: הסיבה המדויקת רשומה ביומן, ו־kolbox check מציג אותה.",
                "Meanwhile callers are asked to leave a message at Twilio, and what was saved before is safe. Ask whoever looks after the box to replace its memory card or disk: the exact reason stands in the log, and kolbox check shows it.",
            ),
            Self::StoreDiskFull => (
                "בינתיים המתקשרים מתבקשים להשאיר הודעה אצל Twilio, ומה שכבר נשמר לא נפגע. בקשו ממי שמטפל במכשיר לפנות מקום בדיסק: אז המכשיר ממשיך מעצמו, בלי הפעלה מחדש.",
                "Meanwhile callers are asked to leave a message at Twilio, and what was saved before is safe. Ask whoever looks after the box to free space on its disk: then it goes on by itself, without a restart.",
            ),
            Self::StoreNotWritable => (
                "בינתיים המתקשרים מתבקשים להשאיר הודעה אצל Twilio, ומה שכבר נשמר לא נפגע. בקשו ממי שמטפל במכשיר לבדוק את store.path: התיקייה צריכה להיות של המשתמש של השירות, והדיסק לא לקריאה בלבד (כך נעשה כרטיס זיכרון שחוק). אחרי התיקון המכשיר ממשיך מעצמו.",
                "Meanwhile callers are asked to leave a message at Twilio, and what was saved before is safe. Ask whoever looks after the box to check store.path: the directory has to be the service user's, and its disk not read-only (as a worn-out memory card becomes). Once that is mended, the box goes on by itself.",
            ),
            Self::StoreFull => (
                "שום דבר לא נמחק, ומתקשרים חדשים מתבקשים להשאיר הודעה אצל Twilio. בדקו שהמערכת של המשרד פועלת ומקבלת תמלולים, או בקשו ממי שמטפל במכשיר להגדיל את store.max_bytes. כשיש מקום, המכשיר ממשיך מעצמו.",
                "Nothing is deleted, and new callers are asked to leave a message at Twilio. See whether the office's system runs and takes transcripts, or ask whoever looks after the box to raise store.max_bytes. Once there is room, the box goes on by itself.",
            ),
            Self::StoreOpening => (
                "עד אז המתקשרים מתבקשים להשאיר הודעה אצל Twilio. אם זה נמשך יותר מכמה דקות, ספרו למי שמטפל במכשיר.",
                "Until then callers are asked to leave a message at Twilio. If it takes more than some minutes, tell whoever looks after the box.",
            ),
            Self::StoreDamaged => (
                "מה שאפשר היה לקרוא נשמר וממשיך להישלח; כמה רשומות חסרות רשום ביומן. בקשו ממי שמטפל במכשיר להעתיק את התיקיות records.damaged-* שב־store.path למקום בטוח ואז למחוק אותן: אז ההודעה הזאת נעלמת. כרטיס זיכרון ישן כדאי להחליף.",
                "What could be read of it is kept and goes on being sent; how many records are missing stands in the log. Ask whoever looks after the box to copy the folders records.damaged-* in store.path to a safe place and then to delete them: this message goes away with them. An old memory card is better replaced.",
            ),
            Self::CertificateExpired => (
                "כל עוד היא לא חודשה, שיחות לא מגיעות למכשיר. בקשו ממי שמטפל במכשיר לחדש עכשיו את התעודה שב־public.tls; המכשיר עובר לחדשה מעצמו, בלי הפעלה מחדש.",
                "Until it is renewed, no call reaches the box. Ask whoever looks after the box to renew the certificate in public.tls now; the box takes the new one by itself, without a restart.",
            ),
            Self::CertificateNotYetValid => (
                "בקשו ממי שמטפל במכשיר לבדוק שהשעון שלו נכון. אם הוא נכון, יש להחליף את התעודה שב־public.tls: היא מיועדת למועד מאוחר יותר.",
                "Ask whoever looks after the box to see whether its clock is right. If it is, the certificate in public.tls is meant for later and has to be replaced.",
            ),
            Self::CertificateUntrusted => (
                "בקשו ממי שמטפל במכשיר לקבוע ב־public.tls תעודה של גוף ציבורי, יחד עם התעודות שמאשרות אותה (fullchain.pem). הסיבה המדויקת רשומה ביומן, ו־kolbox check מציג אותה.",
                "Ask whoever looks after the box to set a certificate of a public authority in public.tls, together with those that vouch for it (fullchain.pem). The exact reason stands in the log, and kolbox check shows it.",
            ),
            Self::CertificateOtherName => (
                "בקשו ממי שמטפל במכשיר להשוות את public.host לשמות שבתעודה: שניהם רשומים ביומן, ו־kolbox check מציג אותם.",
                "Ask whoever looks after the box to compare public.host with the names in the certificate: both stand in the log, and kolbox check shows them.",
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
            Self::CertificateNotTaken => (
                "השיחות ממשיכות עם התעודה הישנה עד שיפוג תוקפה. בקשו ממי שמטפל במכשיר לתקן את הקבצים שב־public.tls לפני ההפעלה הבאה: הסיבה רשומה ביומן. אחרי התיקון המכשיר עובר לתעודה החדשה מעצמו.",
                "Calls go on with the old one until it expires. Ask whoever looks after the box to mend the files in public.tls before its next restart: the reason stands in the log. Once they are mended, the box takes the new one by itself.",
            ),
            Self::CertificateExpiresSoon => (
                "אחר כך Twilio כבר לא תתחבר למכשיר. בקשו ממי שמטפל במכשיר לחדש את התעודה שב־public.tls: היום המדויק רשום ביומן. המכשיר עובר לחדשה מעצמו, בלי הפעלה מחדש.",
                "After that Twilio will no longer connect. Ask whoever looks after the box to renew the certificate in public.tls: the exact day stands in the log. The box takes the new one by itself, without a restart.",
            ),
            Self::SyncFailing => (
                "הם שמורים במכשיר ויישלחו מעצמם ברגע שהמערכת תענה. בדקו שהמערכת פועלת; אם כן, בקשו ממי שמטפל במכשיר לבדוק את sync.url ואת sync.token.",
                "They are safe on the box and are sent by themselves once it answers. See whether the system runs; if it does, ask whoever looks after the box to check sync.url and sync.token.",
            ),
            Self::TranscriptsParked => (
                "הם שמורים במכשיר, והאחרים ממשיכים להישלח. בקשו ממי שמטפל במערכת של המשרד לבדוק מדוע סירבה; ביומן הם מופיעים כ־SYNC_FAILED. אחרי התיקון היכנסו כאן עם הסיסמה ולחצו על ״לשלוח שוב״ ליד כל אחד.",
                "They are kept on the box, and the others go on being sent. Ask whoever looks after the office's system why it refused them; the log has them as SYNC_FAILED. Once that is put right, log in here with the password and press Send again beside each.",
            ),
            Self::AudioFull => (
                "השיחות נענות ונרשמות כרגיל, אבל הקול שלהן כבר לא נשמר כאן. מה ששמור ועדיין אין לו תמלול לא נמחק. בקשו ממי שמטפל במכשיר לפנות מקום בדיסק או להגדיל את audio.max_bytes.",
                "Calls are answered and recorded as ever, but their sound is no longer kept here. What is kept and has no text yet is not deleted. Ask whoever looks after the box to free space on its disk or to raise audio.max_bytes.",
            ),
            Self::SpeechSilent => (
                "השיחות נענות ונשמרות כרגיל, ותמלוליהן מחכים למנוע: כשיענה, יושלמו ויישלחו מעצמם. בקשו ממי שמטפל במכשיר לבדוק שהמנוע פועל ושההגדרות ב־speech נכונות; הסיבה רשומה ב־/api/status וביומן.",
                "Calls are answered and kept as ever, and their records wait for the engine: once it answers they are completed and sent by themselves. Ask whoever looks after the box to see whether the engine runs, and whether the settings in speech are right; the reason stands in /api/status and in the log.",
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
