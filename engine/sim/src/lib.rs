//! Simulated exchanges over real loopback TLS.
