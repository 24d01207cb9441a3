"""Day 2: everything that talks to AWS, and the AWS on this machine that it can be tried on."""
