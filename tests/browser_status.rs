//! The status page in a real browser: its script runs under its policy, follows the box, and a clerk gets things done.

use staffed::{FROM, PASSWORD, Staffed};

#[path = "support/browser.rs"]
mod browser;
#[path = "support/staffed.rs"]
mod staffed;

use browser::Browser;

const HEADLINE: &str = "document.querySelector('h1')?.textContent";
const SHOWN: &str = "document.body?.innerText";

fn headline_is(text: &str) -> String {
    format!("{HEADLINE} === {text:?}")
}

fn shows(text: &str) -> String {
    format!("{SHOWN}?.includes({text:?})")
}

fn press(id: &str) -> String {
    format!("document.getElementById({id:?}).click()")
}

/// One test, since a browser takes its time to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_clerk_follows_a_call_logs_in_sends_a_transcript_again_and_sees_when_the_box_is_gone() {
    let Some(program) = browser::installed() else {
        return println!("SKIPPED browser: no chromium on this machine");
    };
    let staffed = Staffed::start(PASSWORD).await;
    let page = format!("http://{}/?lang=en", staffed.status);
    let mut browser = Browser::start(program).await;
    browser.open(&page).await;
    assert_eq!(browser.text(HEADLINE).await, "All is well. The line is free.");

    follows_a_call(&mut browser, &staffed).await;
    logs_in(&mut browser).await;
    sends_a_transcript_again(&mut browser, &staffed).await;
    assert_eq!(browser.problems, [""; 0], "nothing went wrong in the page so far");

    logs_out_and_mistypes(&mut browser).await;
    browser.open(&page).await;
    runs_no_foreign_script(&mut browser).await;
    browser.open(&page).await;
    sees_that_the_box_is_gone(&mut browser, staffed).await;
}

/// The same page, not loaded anew: what was set in it and what had the focus is still there.
async fn follows_a_call(browser: &mut Browser, staffed: &Staffed) {
    browser.picture("idle-en", 1100, 900, "light").await;
    browser.act("window.sameOne = true; document.getElementById('pause').focus()").await;
    staffed.office_answers(422);
    staffed.ring(1);
    browser.until(&headline_is("One caller is being heard now.")).await;
    browser.until("document.title.startsWith('One caller is being heard now.')").await;
    assert_eq!(browser.value("window.sameOne").await, true);
    assert_eq!(browser.text("document.activeElement.id").await, "pause");
    assert_eq!(browser.text("document.getElementById('said').textContent").await, "One caller is being heard now.");
    let shown = browser.text(SHOWN).await;
    assert!(shown.contains("Number ending in 567") && !shown.contains(FROM), "{shown}");
    browser.picture("call-en-dark", 1100, 900, "dark").await;
}

async fn logs_in(browser: &mut Browser) {
    browser.act(&press("log-in")).await;
    browser.until(&headline_is("Log in with the password")).await;
    browser.until("document.activeElement.id === 'password'").await;
    browser.picture("login-en-phone", 390, 700, "light").await;
    browser.act(&format!("document.getElementById('password').value = {PASSWORD:?}")).await;
    browser.act("document.querySelector('main form').requestSubmit()").await;
    browser.until(&shows(FROM)).await;
    assert_eq!(browser.text("location.pathname + location.search").await, "/?lang=en");
    assert_eq!(browser.text("document.cookie").await, "", "no script reads the session");
}

async fn sends_a_transcript_again(browser: &mut Browser, staffed: &Staffed) {
    let call_sid = staffed.gateway.snapshot().borrow().calls[0].call_sid.parse().unwrap();
    staffed.hang_up(call_sid).await;
    browser.until(&shows("Send again")).await;
    browser.picture("refused-en", 1100, 1300, "light").await;
    staffed.office_answers(201);
    browser.act("document.querySelector('.retry button').click()").await;
    browser.until(&shows("Everything was delivered.")).await;
    assert!(!browser.text(SHOWN).await.contains("Send again"));
}

async fn logs_out_and_mistypes(browser: &mut Browser) {
    browser.act(&press("log-out")).await;
    browser.until(&shows("Number ending in 567")).await;
    assert!(!browser.text(SHOWN).await.contains(FROM));
    browser.act(&press("log-in")).await;
    browser.until(&headline_is("Log in with the password")).await;
    browser.act("document.getElementById('password').value = 'sesame'").await;
    browser.act("document.querySelector('main form').requestSubmit()").await;
    browser.until("document.getElementById('problem')?.textContent === 'That is not the password.'").await;
}

async fn runs_no_foreign_script(browser: &mut Browser) {
    browser
        .act("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))")
        .await;
    assert_eq!(browser.text("typeof window.ran").await, "undefined");
    let stopped = browser.problems.iter().any(|problem| problem.contains("Content Security Policy"));
    assert!(stopped, "{:?}", browser.problems);
}

async fn sees_that_the_box_is_gone(browser: &mut Browser, staffed: Staffed) {
    browser.until("document.getElementById('lost').hidden").await;
    staffed.stop().await;
    browser.until("!document.getElementById('lost').hidden").await;
    browser.until("document.body.classList.contains('stale')").await;
    assert!(browser.text(SHOWN).await.contains("The box does not answer."));
    browser.picture("lost-en", 1100, 900, "light").await;
}
