"""Device identities: private keys sealed outside the repository, certificate signing requests inside it."""
