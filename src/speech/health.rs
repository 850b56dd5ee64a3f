//! How the speech engine does, in words for the staff.

use jiff::civil::Time;

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Since when it does not answer, by the office's clock; `None`: it answers, as far as is known.
    pub silent_since: Option<Time>,
    /// Calls whose text is still to come.
    pub calls_waiting: usize,
}

impl Health {
    /// Nothing is wrong, and nothing waits.
    pub fn is_well(&self) -> bool {
        *self == Self::default()
    }

    /// `speech engine not answering since 10:42; 3 calls wait for it`
    pub fn in_english(&self) -> String {
        let waiting = match self.calls_waiting {
            0 => "no call waits for it".to_owned(),
            1 => "1 call waits for it".to_owned(),
            calls => format!("{calls} calls wait for it"),
        };
        match self.silent_since {
            Some(since) => format!("speech engine not answering since {}; {waiting}", since.strftime("%H:%M")),
            None => format!("speech engine at work; {waiting}"),
        }
    }

    /// The same in Hebrew.
    pub fn in_hebrew(&self) -> String {
        let waiting = match self.calls_waiting {
            0 => "אין שיחה שממתינה לו".to_owned(),
            1 => "שיחה אחת ממתינה לו".to_owned(),
            2 => "שתי שיחות ממתינות לו".to_owned(),
            calls => format!("{calls} שיחות ממתינות לו"),
        };
        match self.silent_since {
            Some(since) => format!("מנוע התמלול אינו עונה מאז {}; {waiting}", since.strftime("%H:%M")),
            None => format!("מנוע התמלול עובד; {waiting}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::time;

    use super::*;

    #[test]
    fn staff_read_since_when_and_how_many_wait() {
        let silent = |calls_waiting| Health { silent_since: Some(time(10, 42, 59, 0)), calls_waiting };
        assert_eq!(silent(3).in_english(), "speech engine not answering since 10:42; 3 calls wait for it");
        assert_eq!(silent(1).in_english(), "speech engine not answering since 10:42; 1 call waits for it");
        assert_eq!(silent(0).in_english(), "speech engine not answering since 10:42; no call waits for it");
        assert_eq!(silent(3).in_hebrew(), "מנוע התמלול אינו עונה מאז 10:42; 3 שיחות ממתינות לו");
        assert_eq!(silent(2).in_hebrew(), "מנוע התמלול אינו עונה מאז 10:42; שתי שיחות ממתינות לו");
        assert_eq!(silent(1).in_hebrew(), "מנוע התמלול אינו עונה מאז 10:42; שיחה אחת ממתינה לו");
        assert!(!silent(0).is_well());
    }

    #[test]
    fn an_engine_that_answers_may_still_have_work() {
        let works = Health { silent_since: None, calls_waiting: 2 };
        assert_eq!(works.in_english(), "speech engine at work; 2 calls wait for it");
        assert_eq!(works.in_hebrew(), "מנוע התמלול עובד; שתי שיחות ממתינות לו");
        assert!(!works.is_well() && Health::default().is_well());
    }
}
