"""GPUs as a person asks about them: reports, findings, drivers, MIG."""
