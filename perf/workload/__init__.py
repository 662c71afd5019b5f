"""What is asked of a server: users, lengths, traffic, and what must hold."""
