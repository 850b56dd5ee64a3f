//! The small bodies that the status listener reads: forms, within a size and a time.

use std::{borrow::Cow, error::Error as StdError, pin::pin};

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::limits::{BODY_READ_MAX, STATUS_BODY_BYTES_MAX};

/// Reads a whole body.
///
/// # Errors
/// For one that is too large, as far as its length is announced before a byte of it is read; too slow; or broken off.
pub async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data: Buf, Error: Into<Box<dyn StdError + Send + Sync>>>,
{
    if body.size_hint().lower() > STATUS_BODY_BYTES_MAX as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let whole = pin!(Limited::new(body, STATUS_BODY_BYTES_MAX));
    match timeout(BODY_READ_MAX, whole.collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodyTooSlow),
    }
}

/// The first field of that name in a form, or in a query.
pub fn field<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn pieces<E>(pieces: Vec<Result<Bytes, E>>) -> impl Body<Data = Bytes, Error = E> {
        StreamBody::new(futures_util::stream::iter(pieces.into_iter().map(|piece| piece.map(Frame::data))))
    }

    #[tokio::test]
    async fn a_body_up_to_the_maximum_is_read_and_one_byte_more_is_too_much() {
        let of = |length| Bytes::from(vec![b'a'; length]);
        assert_eq!(read(Full::new(of(STATUS_BODY_BYTES_MAX))).await.unwrap().len(), STATUS_BODY_BYTES_MAX);
        assert_eq!(read(Full::new(of(STATUS_BODY_BYTES_MAX + 1))).await, Err(Refusal::BodyTooLarge));
        let unannounced = pieces::<Infallible>(vec![Ok(of(STATUS_BODY_BYTES_MAX)), Ok(of(1))]);
        assert_eq!(read(unannounced).await, Err(Refusal::BodyTooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_or_breaks_off_is_given_up() {
        let silent = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read(silent).await, Err(Refusal::BodyTooSlow));
        let broken = pieces(vec![Ok("password=".into()), Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
        assert_eq!(read(broken).await, Err(Refusal::BodyBroken));
    }

    #[test]
    fn fields_are_found_by_name_and_decoded() {
        let form = b"lang=he&password=p%26ss+w%C3%B6rd&password=other";
        assert_eq!(field(form, "password").as_deref(), Some("p&ss wörd"));
        assert_eq!(field(form, "Password"), None);
        assert_eq!(field(b"", "password"), None);
    }
}
