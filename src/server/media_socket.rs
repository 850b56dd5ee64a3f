//! (stub)
use crate::server::desk_port::DeskPort;
use hyper::upgrade::Upgraded;
#[derive(Debug, Clone)]
pub struct MediaContext;
pub async fn run(_: Upgraded, _: DeskPort, _: MediaContext) {}
