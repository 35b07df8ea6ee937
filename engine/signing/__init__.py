"""The signing keys, and the places outside of Postgres that keep the heads they sign.

What is signed, and how, is `events`' (`note`, `signer`)."""
