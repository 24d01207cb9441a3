"""An AWS IoT that enforces its quotas: a small HTTP server on loopback that speaks the REST shapes of what onboarding
calls, throttles each API by a token bucket of one second's burst, and signs certificates from CSRs."""
