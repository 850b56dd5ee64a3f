//! The way out to Twilio's REST API: requests as values go out, signed in with our credentials; answers come back.

use std::{fmt, future::pending};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{
    Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use secrecy::ExposeSecret;

use crate::{
    config,
    limits::{RECORDING_BYTES_MAX, RECORDING_FETCH_MAX, REST_ANSWER_MAX, REST_BODY_BYTES_MAX, REST_REUSED_ANSWER_MAX},
    system::http_client::{BodyFailure, Failure, HttpClient, Reply},
    twilio::{
        rest::{RestFailure, RestReply, RestRequest, Want},
        webhook::Form,
    },
};

/// Twilio's REST side with our credentials; cheap to clone.
#[derive(Clone)]
pub struct RestClient {
    http: HttpClient,
    base: String,
    authorization: HeaderValue,
}

impl RestClient {
    /// `http` decides whose certificates are believed and how long a connection may take ([`REST_CONNECT_MAX`]).
    /// An API key signs in where one is set, else the account with its token (docs: API requests, "Credentials").
    ///
    /// [`REST_CONNECT_MAX`]: crate::limits::REST_CONNECT_MAX
    pub fn new(twilio: &config::Twilio, http: HttpClient) -> Self {
        let account = twilio.account_sid.as_ref().map_or("", |sid| sid.as_str());
        let credentials = if twilio.api_key_sid.is_empty() {
            format!("{account}:{}", twilio.auth_token.expose_secret())
        } else {
            format!("{}:{}", twilio.api_key_sid, twilio.api_key_secret.expose_secret())
        };
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).expect("base64 is visible ASCII");
        authorization.set_sensitive(true);
        let http = http.with_reused_answer_max(REST_REUSED_ANSWER_MAX);
        Self { http, base: twilio.api_base.clone(), authorization }
    }

    /// Sends one request: who asked decides about another try.
    ///
    /// # Errors
    /// No answer in time, or none that fits; every status is an answer.
    pub async fn send(&self, request: RestRequest) -> Result<RestReply, RestFailure> {
        self.send_unless_moot(request, pending()).await
    }

    /// The same of a request that is not to be repeated once `moot` has come: what it asks for was seen to be done.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_unless_moot(
        &self,
        request: RestRequest,
        moot: impl Future<Output = ()>,
    ) -> Result<RestReply, RestFailure> {
        match self.exchange_unless_moot(request, moot).await {
            Ok(reply) => Ok(reply.into()),
            Err(failure) => {
                tracing::debug!(error = %Chain(&failure), "no whole answer from Twilio's REST API");
                without_body(&failure)
            }
        }
    }

    /// As [`Self::send`], with everything that HTTP tells.
    pub async fn exchange(&self, request: RestRequest) -> Result<Reply, Failure> {
        self.exchange_unless_moot(request, pending()).await
    }

    async fn exchange_unless_moot(
        &self,
        request: RestRequest,
        moot: impl Future<Output = ()>,
    ) -> Result<Reply, Failure> {
        let (total, body_bytes_max) = match request.want {
            Want::Json => (REST_ANSWER_MAX, REST_BODY_BYTES_MAX),
            Want::Audio => (RECORDING_FETCH_MAX, RECORDING_BYTES_MAX),
        };
        let request = self.http_request(request).map_err(|error| {
            tracing::error!(%error, "twilio.api_base gives no usable URL");
            Failure::Connect(error.into())
        })?;
        self.http.send_unless_moot(request, total, body_bytes_max, moot).await
    }

    fn http_request(&self, request: RestRequest) -> Result<Request<Bytes>, hyper::http::Error> {
        let accept = match request.want {
            Want::Json => "application/json",
            Want::Audio => "audio/x-wav, audio/wav",
        };
        let builder = Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.base, request.path))
            .header(AUTHORIZATION, &self.authorization)
            .header(ACCEPT, accept)
            .header(USER_AGENT, concat!("kolbox/", env!("CARGO_PKG_VERSION")));
        match request.form {
            Some(pairs) => builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Form::from_pairs(pairs).encode().into()),
            None => builder.body(Bytes::new()),
        }
    }
}

impl From<Reply> for RestReply {
    fn from(reply: Reply) -> Self {
        Self { status: reply.status, retry_after: reply.retry_after, body: reply.body.into() }
    }
}

/// What is left of an answer without its whole body. A refusal is one by its status alone; a yes says nothing without
/// what was said yes to.
fn without_body(failure: &Failure) -> Result<RestReply, RestFailure> {
    match failure {
        Failure::Connect(_) => Err(RestFailure::Connect),
        Failure::TimedOut => Err(RestFailure::TimedOut),
        Failure::Broken(_) => Err(RestFailure::Broken),
        Failure::Body { status: 200..=299, why, .. } => Err(match why {
            BodyFailure::TooLarge => RestFailure::TooLarge,
            BodyFailure::TimedOut => RestFailure::TimedOut,
            BodyFailure::Broken(_) => RestFailure::Broken,
        }),
        Failure::Body { status, retry_after, .. } => {
            Ok(RestReply { status: *status, retry_after: *retry_after, body: Vec::new() })
        }
    }
}

impl fmt::Debug for RestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestClient").field("base", &self.base).finish_non_exhaustive()
    }
}

/// An error with its causes: "no connection: client error (Connect): …".
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        system::http_client::Roots,
        twilio::sid::{AccountSid, CallSid, RecordingSid},
    };

    fn client(change: impl FnOnce(&mut config::Twilio)) -> RestClient {
        let mut twilio = config::Twilio {
            account_sid: Some(AccountSid::from_number(1)),
            auth_token: "token".into(),
            ..config::Twilio::default()
        };
        change(&mut twilio);
        RestClient::new(&twilio, HttpClient::new(&Roots::Public, Duration::from_secs(1)).unwrap())
    }

    fn signed_in(request: &Request<Bytes>) -> String {
        let value = request.headers()[AUTHORIZATION].to_str().unwrap();
        String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_redirect_is_a_form_posted_to_the_calls_resource() {
        let account = AccountSid::from_number(1);
        let redirect = RestRequest::redirect(&account, &CallSid::from_number(2), "<Response/>".into());
        let request = client(|_| {}).http_request(redirect).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(
            request.uri().to_string(),
            format!("https://api.twilio.com/2010-04-01/Accounts/{account}/Calls/{}.json", CallSid::from_number(2))
        );
        assert_eq!(request.body(), "Twiml=%3CResponse%2F%3E");
        assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert_eq!(signed_in(&request), format!("{account}:token"));
    }

    #[test]
    fn an_api_key_signs_in_where_one_is_set_and_the_path_keeps_the_account() {
        let account = AccountSid::from_number(1);
        let client = client(|twilio| {
            twilio.api_key_sid = "SK1".into();
            twilio.api_key_secret = "secret".into();
            twilio.api_base = "http://127.0.0.1:4010".into();
        });
        let request =
            client.http_request(RestRequest::recording_media(&account, &RecordingSid::from_number(3))).unwrap();
        assert_eq!(signed_in(&request), "SK1:secret");
        assert!(request.uri().to_string().starts_with("http://127.0.0.1:4010/2010-04-01/Accounts/AC"));
        assert!(request.body().is_empty());
    }

    #[test]
    fn no_credential_shows_when_a_client_or_its_request_is_printed() {
        let client = client(|_| {});
        let request = client
            .http_request(RestRequest::fetch_call(&AccountSid::from_number(1), &CallSid::from_number(2)))
            .unwrap();
        let printed = format!("{client:?} {request:?}");
        assert!(!printed.contains("token") && !printed.contains("Basic "), "{printed}");
    }

    #[tokio::test]
    async fn a_base_that_is_no_url_counts_as_never_sent() {
        let client = client(|twilio| twilio.api_base = "not a url".into());
        let request = RestRequest::fetch_call(&AccountSid::from_number(1), &CallSid::from_number(2));
        assert_eq!(client.send(request).await, Err(RestFailure::Connect));
    }
}
