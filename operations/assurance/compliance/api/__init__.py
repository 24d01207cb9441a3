"""What AWS's APIs take: each planned attribute against the member of the call that Terraform makes of it."""
