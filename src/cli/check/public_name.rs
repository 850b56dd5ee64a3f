//! The name under which Twilio reaches the box: its addresses, and what answers there to somebody from outside.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use hyper::Request;
use rustls::CertificateError;
use tokio::{net::lookup_host, time::timeout};

use super::finding::Finding;
use crate::{
    cli::with_causes,
    config::Config,
    limits::{CHECK_NAME_MAX, REST_CONNECT_MAX},
    system::http_client::{Failure, HttpClient, Reply, Roots},
};

/// An answer to `/healthz` is three bytes.
const ANSWER_BYTES_MAX: usize = 1024;
const HTTPS_PORT: u16 = 443;

/// Looks at `public.host`.
pub(super) async fn examine(config: &Config, gateway_runs: bool, findings: &mut Vec<Finding>) {
    let Some(host) = &config.public.host else {
        let text = "the name of each validated request is used; set public.host to accept no other";
        return findings.push(Finding::note("public name", text));
    };
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    match addresses(name).await {
        Ok(addresses) => findings.push(judge_addresses(host, &addresses)),
        Err(why) => {
            let text =
                format!("{host} cannot be found ({why}): enter it in the DNS of its domain, or mend public.host");
            return findings.push(Finding::fix("public name", text));
        }
    }
    let Ok(client) = HttpClient::new(&Roots::Public, REST_CONNECT_MAX) else { return };
    findings.push(judge_answer(host, ask(&client, host, CHECK_NAME_MAX).await, gateway_runs));
}

/// The addresses of a name by this computer's resolver.
pub(super) async fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    match timeout(CHECK_NAME_MAX, lookup_host((name, HTTPS_PORT))).await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CHECK_NAME_MAX.as_secs())),
    }
}

fn judge_addresses(host: &str, addresses: &[IpAddr]) -> Finding {
    let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let shown = shown.join(", ");
    let is_internal = |address: &IpAddr| match address {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match addresses.iter().all(is_internal) {
        true => Finding::note("public name", format!("{host} is {shown} here: outside it must be a public address")),
        false => Finding::fine("public name", format!("{host} is {shown}")),
    }
}

async fn ask(client: &HttpClient, host: &str, limit: Duration) -> Result<Reply, Failure> {
    let request = Request::get(format!("https://{host}/healthz")).body(Bytes::new());
    client.send(request.map_err(|error| Failure::Connect(error.into()))?, limit, ANSWER_BYTES_MAX).await
}

fn judge_answer(host: &str, answer: Result<Reply, Failure>, gateway_runs: bool) -> Finding {
    let failure = match answer {
        Ok(reply) if reply.status == 200 && &reply.body[..] == b"ok" => {
            return Finding::fine("way in", format!("https://{host} answers, and its certificate is one to believe"));
        }
        Ok(reply) => {
            let status = reply.status;
            let text =
                format!("https://{host}/healthz gives HTTP {status}: something else than this box answers there");
            return Finding::fix("way in", text);
        }
        Err(failure) => failure,
    };
    if let Some(error) = failure.tls() {
        let text = match error {
            rustls::Error::InvalidCertificate(error) => certificate_remedy(error),
            other => format!("TLS fails ({other})"),
        };
        return Finding::fix("way in", format!("https://{host}: {text}"));
    }
    if !gateway_runs {
        return Finding::note(
            "way in",
            format!("not tried: no gateway runs here; start it, and check again ({failure})"),
        );
    }
    let text = format!(
        "https://{host} cannot be reached from here ({}); where it can from outside all is well: many routers do not lead \
         back in",
        with_causes(&failure)
    );
    Finding::note("way in", text)
}

/// What Twilio would refuse too, and what to do.
fn certificate_remedy(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired: renew it",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is this computer's clock right?"
        }
        CertificateError::UnknownIssuer => {
            "no public authority vouches for its certificate: it is self-signed, or the intermediate one is missing (serve \
             the whole chain)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: get one for this"
        }
        other => return format!("its certificate is refused ({other})"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::HeaderMap;
    use rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };
    use tokio::{io::AsyncWriteExt, net::TcpListener};
    use tokio_rustls::TlsAcceptor;

    use super::{super::finding::Verdict, *};

    fn reply(status: u16, body: &'static str) -> Result<Reply, Failure> {
        Ok(Reply { status, headers: HeaderMap::new(), retry_after: None, body: Bytes::from_static(body.as_bytes()) })
    }

    #[test]
    fn addresses_that_twilio_cannot_reach_are_pointed_out() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(judge_addresses("gw", &[ip("192.168.1.5"), ip("fd00::1")]).verdict, Verdict::Note);
        assert_eq!(judge_addresses("gw", &[ip("192.168.1.5"), ip("2001:db8::1")]).verdict, Verdict::Fine);
    }

    #[test]
    fn only_a_box_counts_as_the_way_in() {
        assert_eq!(judge_answer("gw", reply(200, "ok"), true).verdict, Verdict::Fine);
        for other in [reply(200, "<html>"), reply(404, ""), reply(502, "")] {
            assert_eq!(judge_answer("gw", other, true).verdict, Verdict::Fix);
        }
        for runs in [true, false] {
            let finding = judge_answer("gw", Err(Failure::TimedOut), runs);
            assert_eq!(finding.verdict, Verdict::Note, "a router that does not lead back in is no fault: {finding}");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_twilio_refuses_is_seen_from_outside() {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(mut socket) = TlsAcceptor::from(Arc::new(config)).accept(socket).await {
                let _ = socket.shutdown().await;
            }
        });
        let client = HttpClient::new(&Roots::Public, REST_CONNECT_MAX).unwrap();
        let finding = judge_answer(&host, ask(&client, &host, CHECK_NAME_MAX).await, true);
        assert!(finding.verdict == Verdict::Fix && finding.text.contains("self-signed"), "{finding}");
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_to_be_mended() {
        let mut config = Config::default();
        config.public.host = Some("no-such-host.invalid:8443".to_owned());
        let mut findings = Vec::new();
        examine(&config, true, &mut findings).await;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].verdict == Verdict::Fix && findings[0].text.contains("public.host"), "{findings:?}");
    }
}
