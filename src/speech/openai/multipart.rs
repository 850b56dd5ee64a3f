//! A form with a file in it, as `multipart/form-data` (RFC 7578).
//!
//! Written here: the one crate for clients is a part of reqwest, and what is needed is these few lines.

/// The body, and the `Content-Type` that goes with it. Names and the file's name must be plain ASCII without quotes.
pub(super) fn encode(fields: &[(&str, &str)], file: (&str, &str, &[u8])) -> (Vec<u8>, String) {
    let (name, file_name, content) = file;
    let boundary = boundary(fields, content);
    let mut body = Vec::with_capacity(content.len() + 1_024);
    for (name, value) in fields {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (body, format!("multipart/form-data; boundary={boundary}"))
}

/// A line that stands in nothing that is sent (RFC 2046 §5.1.1): the first of a row that does not.
fn boundary(fields: &[(&str, &str)], content: &[u8]) -> String {
    let contains = |boundary: &[u8]| {
        let parts = fields.iter().map(|(_, value)| value.as_bytes()).chain([content]);
        parts.into_iter().any(|part| part.windows(boundary.len()).any(|window| window == boundary))
    };
    let mut number = 0_u64;
    loop {
        let boundary = format!("kolbox-{number:024}");
        if !contains(boundary.as_bytes()) {
            return boundary;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_first_and_the_file_as_it_is() {
        let (body, kind) =
            encode(&[("model", "base"), ("prompt", "רבקה, Dana")], ("file", "call.wav", b"RIFF\x00\xff"));
        assert_eq!(kind, "multipart/form-data; boundary=kolbox-000000000000000000000000");
        let expected = "--kolbox-000000000000000000000000\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbase\r\n\
            --kolbox-000000000000000000000000\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nרבקה, Dana\r\n\
            --kolbox-000000000000000000000000\r\nContent-Disposition: form-data; name=\"file\"; filename=\"call.wav\"\r\n\
            Content-Type: audio/wav\r\n\r\nRIFF";
        let expected = [expected.as_bytes(), b"\x00\xff\r\n--kolbox-000000000000000000000000--\r\n"].concat();
        assert_eq!(String::from_utf8_lossy(&body), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn a_boundary_that_stands_in_the_sound_or_in_a_field_is_not_taken() {
        let sound = b"..kolbox-000000000000000000000000..";
        let (body, kind) = encode(&[("prompt", "--kolbox-000000000000000000000001")], ("file", "a.wav", sound));
        assert!(kind.ends_with("kolbox-000000000000000000000002"));
        let text = String::from_utf8(body).unwrap();
        assert_eq!(text.matches("--kolbox-000000000000000000000002").count(), 3);
    }
}
