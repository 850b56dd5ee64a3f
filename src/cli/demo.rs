//! `kolbox demo`: a gateway and a simulated Twilio on one laptop (stub: needs the gateway).
