"""What is sent to a server: users, lengths, traffic; and the thresholds of a run."""
