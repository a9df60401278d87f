"""Programs that run containers as the OCI runtime specification has it (runc, crun, ...), in place of our launcher."""
