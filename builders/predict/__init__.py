"""What serving would cost on a processor, from a cut."""
